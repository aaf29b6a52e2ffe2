import { join } from 'node:path';
import type { RealInode } from '#core/index/tree.ts';
import type { DirectoryEntry } from '../kernel/fuse/directory.ts';
import { FuseError } from '../kernel/fuse/errno.ts';
import type { Call, FileSystem, Opened } from '../kernel/fuse/file-system.ts';
import { OPEN_FLAGS } from '../kernel/fuse/flags.ts';
import type { Attributes, Entry, Statistics } from '../kernel/fuse/reply.ts';
import type { NodeId, Uint64 } from '../kernel/fuse/request.ts';
import { imageXattrs, Warnings } from '../kernel/index-xattrs.ts';
import { deviceNumber } from '../kernel/inode.ts';
import type { ImageEntries } from './image-entries.ts';
import type { ImageEntry } from './image-entry.ts';
import { ImageTree } from './image-tree.ts';
import { listFolder } from './listing.ts';
import { makeNode, NODE_KIND, type NodeKind, nodeKind, nodeNumber, TREE_NODE, treeSlot } from './node-id.ts';
import { NO_HANDLE, type ObjectAccess } from './object-access.ts';
import { FOR_EVER, IMAGE_NAME_SECONDS } from './object-file-system.ts';

/** S_IF* of linux/stat.h. */
const TYPE_BITS: Readonly<Record<RealInode['type'], number>> = {
  fifo: 0o010000,
  'character-device': 0o020000,
  directory: 0o040000,
  'block-device': 0o060000,
  file: 0o100000,
  symlink: 0o120000,
};

export interface TreeFileSystemOptions {
  readonly images: ImageEntries;
  readonly access: ObjectAccess;
  /** Where the images' indexes lie. */
  readonly folder: string;
  readonly statistics: () => Statistics;
}

interface Found {
  readonly entry: ImageEntry;
  readonly tree: ImageTree;
  readonly number: number;
  readonly inode: RealInode;
}

/**
 * remote/tree/: a folder for each image, in it the image's whole tree with all its metadata: an ordinary lower layer for kernels whose overlay has no
 * data-only ones. Every open is a message to this process, so the other way is used wherever it can be.
 */
export class TreeFileSystem implements FileSystem {
  readonly #options: TreeFileSystemOptions;
  readonly #trees = new WeakMap<ImageEntry, ImageTree>();

  constructor(options: TreeFileSystemOptions) {
    this.#options = options;
  }

  lookup(parent: NodeId, name: string): Entry {
    if (parent.high === TREE_NODE.high) {
      const entry = this.#options.images.byName(name);
      if (entry === undefined) throw new FuseError('ENOENT');
      this.#options.access.mounted(entry);
      return { ...this.#entry(entry, 0), nameSeconds: IMAGE_NAME_SECONDS };
    }
    const { entry, tree, number } = this.#find(parent);
    const child = tree.find(number, name);
    if (child === undefined) throw new FuseError('ENOENT');
    return this.#entry(entry, child);
  }

  attributes(node: NodeId): { attributes: Attributes; seconds: number } {
    if (node.high === TREE_NODE.high) {
      return { attributes: { node, size: 0, mode: 0o040555, links: 2 }, seconds: FOR_EVER };
    }
    return { attributes: this.#attributes(node, this.#find(node)), seconds: FOR_EVER };
  }

  open(node: NodeId, call: Call): Opened | Promise<Opened> {
    const { entry, inode } = this.#find(node);
    const row = rowOf(entry, inode);
    if (row === undefined) return { handle: NO_HANDLE, flags: OPEN_FLAGS.KEEP_CACHE };
    const { access } = this.#options;
    return nodeKind(node) === NODE_KIND.direct
      ? access.openDirect(entry, row, node, call)
      : access.openCached(entry, row);
  }

  read(node: NodeId, offset: number, size: number, call: Call): readonly Uint8Array[] | Promise<readonly Uint8Array[]> {
    const { entry, inode } = this.#find(node);
    const row = rowOf(entry, inode);
    return row === undefined ? [] : this.#options.access.read(entry, row, offset, size, call);
  }

  release(node: NodeId, handle: Uint64): void {
    if (nodeKind(node) === NODE_KIND.direct) this.#options.access.releaseDirect(node, handle);
  }

  list(node: NodeId, offset: number): Iterable<DirectoryEntry> {
    if (node.high === TREE_NODE.high) {
      const names = this.#options.images.names();
      const { attributes } = this.attributes(node);
      return listFolder({ attributes, nameSeconds: 0, attributeSeconds: FOR_EVER }, offset, names.length, (i) => {
        const name = names[i] as string;
        return { name, entry: this.lookup(TREE_NODE, name) };
      });
    }
    const { entry, tree, number } = this.#find(node);
    const names = tree.names(number);
    return listFolder(this.#entry(entry, number), offset, names.length, (i) => {
      const { name, number: child } = names[i] as (typeof names)[number];
      return { name, entry: this.#entry(entry, child, true) };
    });
  }

  statistics(): Statistics {
    return this.#options.statistics();
  }

  readLink(node: NodeId): Uint8Array {
    const { inode } = this.#find(node);
    if (inode.type !== 'symlink') throw new FuseError('EINVAL');
    return Buffer.from(inode.target, 'latin1');
  }

  extendedAttribute(node: NodeId, name: string): Uint8Array | undefined {
    return node.high === TREE_NODE.high ? undefined : xattrsOf(this.#find(node).inode).get(name);
  }

  extendedAttributeNames(node: NodeId): Uint8Array {
    if (node.high === TREE_NODE.high) return Buffer.alloc(0);
    const names = [...xattrsOf(this.#find(node).inode).keys()].map((name) => `${name}\0`);
    return Buffer.from(names.join(''), 'latin1');
  }

  #find(node: NodeId): Found {
    const entry = this.#options.images.bySlot(treeSlot(node));
    if (entry === undefined) throw new FuseError('ENOENT');
    const tree = this.#tree(entry);
    const number = nodeNumber(node);
    const inode = tree.inode(number);
    if (inode === undefined) throw new FuseError('ENOENT');
    return { entry, tree, number, inode };
  }

  #tree(entry: ImageEntry): ImageTree {
    const known = this.#trees.get(entry);
    if (known !== undefined) return known;
    const tree = ImageTree.open(join(this.#options.folder, entry.image, 'index'), entry.image);
    this.#trees.set(entry, tree);
    return tree;
  }

  #entry(entry: ImageEntry, number: number, listed = false): Entry {
    const tree = this.#tree(entry);
    const inode = tree.inode(number) as RealInode;
    const node = makeNode(TREE_NODE.high + entry.table.slot, this.#kind(entry, inode, listed), number);
    const attributes = this.#attributes(node, { entry, tree, number, inode });
    return { attributes, nameSeconds: FOR_EVER, attributeSeconds: FOR_EVER };
  }

  #kind(entry: ImageEntry, inode: RealInode, listed: boolean): NodeKind {
    const row = rowOf(entry, inode);
    if (row === undefined) return NODE_KIND.image;
    const { access } = this.#options;
    const direct = listed ? access.isSmallDirect(entry, row) : access.isDirect(entry, row);
    return direct ? NODE_KIND.direct : NODE_KIND.cached;
  }

  #attributes(node: NodeId, { tree, number, inode }: Found): Attributes {
    const device = inode.type === 'character-device' || inode.type === 'block-device';
    return {
      node,
      // One file, whichever way the kernel reads each of its names.
      inode: makeNode(node.high, NODE_KIND.image, number),
      size: inode.type === 'file' ? inode.size : inode.type === 'symlink' ? inode.target.length : 0,
      mode: TYPE_BITS[inode.type] | inode.mode,
      links: tree.links(number),
      uid: inode.uid,
      gid: inode.gid,
      mtimeSeconds: inode.mtimeSeconds,
      mtimeNanoseconds: inode.mtimeNanoseconds,
      ...(device ? { device: deviceNumber(inode.major, inode.minor) } : {}),
    };
  }
}

/** Those that an index compiled for the kernel would have, too. */
function xattrsOf(inode: RealInode): ReadonlyMap<string, Buffer> {
  return new Map(imageXattrs(inode, '', new Warnings()));
}

/** The row of a file's contents in the image's table; undefined for what has none. */
function rowOf(entry: ImageEntry, inode: RealInode): number | undefined {
  return inode.type === 'file' && inode.digest !== undefined ? entry.table.find(inode.digest) : undefined;
}
