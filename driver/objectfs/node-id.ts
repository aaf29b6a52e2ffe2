import type { NodeId } from '../kernel/fuse/request.ts';

/**
 * Node ids say all there is to say about a node, so that a new server process understands what the kernel learnt from one that was killed: the image's
 * slot in the upper half, then two bits of kind and thirty bits of number. The root is 1: no image has slot 0.
 */
export const NODE_KIND = {
  /** The image's folder; number 0. */
  image: 0,
  /** One of its folders of objects; the number is their first byte. */
  prefix: 1,
  /** An object that the kernel reads from us, through its page cache; the number is its row in the table. */
  cached: 2,
  /** The same object as an inode of its own, whose file the kernel reads past us. It refuses to mix both ways in one inode. */
  direct: 3,
} as const;
export type NodeKind = (typeof NODE_KIND)[keyof typeof NODE_KIND];

/**
 * The folder of the images' trees. The nodes in it have the top bit of the slot set; their number is the inode's in the tree, their kind "image" for
 * whatever has no contents.
 */
export const TREE_NODE: NodeId = { high: 0x8000_0000, low: 1 };

export function isTreeNode(node: NodeId): boolean {
  return node.high >= TREE_NODE.high;
}

/** The image's slot of a node in a tree. */
export function treeSlot(node: NodeId): number {
  return node.high - TREE_NODE.high;
}

export function makeNode(slot: number, kind: NodeKind, number: number): NodeId {
  return { high: slot, low: ((kind << 30) | number) >>> 0 };
}

export function nodeKind(node: NodeId): NodeKind {
  return (node.low >>> 30) as NodeKind;
}

export function nodeNumber(node: NodeId): number {
  return node.low & 0x3fff_ffff;
}
