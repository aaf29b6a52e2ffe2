import { readFileSync } from 'node:fs';
import { type Digest, digestOf } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { decodeIndex } from '#core/index/decode.ts';
import { type ByteString, type Inode, type RealInode, sortedNames } from '#core/index/tree.ts';

/** A name in a directory, and the number of its inode. */
export interface TreeName {
  readonly name: ByteString;
  readonly number: number;
}

interface TreeNode {
  readonly inode: RealInode;
  links: number;
  readonly parent: number;
  /** Of a directory, in order of their bytes. */
  readonly names: readonly TreeName[];
  readonly byName: ReadonlyMap<ByteString, number>;
}

const NO_NAMES: TreeNode['byName'] = new Map();

/**
 * An image's tree with numbered inodes: 0 is the root, the others follow as they come in the index, all names of an inode sharing its number. So the
 * same index gives the same numbers in whichever process.
 */
export class ImageTree {
  readonly #nodes: TreeNode[] = [];

  /** Reads `images/<image>/index`. Throws corrupt where that is not the image's index. */
  static open(file: string, image: Digest): ImageTree {
    const bytes = readFileSync(file);
    const found = digestOf(bytes);
    if (found !== image) throw new GearError('corrupt', `${file} is damaged: its digest is ${found}`);
    return new ImageTree(bytes);
  }

  /** Takes an encoded index. */
  constructor(bytes: Uint8Array) {
    const { root } = decodeIndex(bytes);
    const numbers = new Map<Inode, number>();
    this.#add(root, 0, numbers);
  }

  get count(): number {
    return this.#nodes.length;
  }

  /** Undefined for a number that no inode has. */
  inode(number: number): RealInode | undefined {
    return this.#nodes[number]?.inode;
  }

  /** How many names an inode has; for a directory as filesystems count: 2 and its subdirectories. */
  links(number: number): number {
    return this.#nodes[number]?.links ?? 0;
  }

  parent(number: number): number {
    return this.#nodes[number]?.parent ?? 0;
  }

  find(directory: number, name: ByteString): number | undefined {
    return this.#nodes[directory]?.byName.get(name);
  }

  names(directory: number): readonly TreeName[] {
    return this.#nodes[directory]?.names ?? [];
  }

  #add(inode: Inode, parent: number, numbers: Map<Inode, number>): number {
    if (inode.type === 'whiteout') throw new GearError('corrupt', 'a whiteout in the index of an image');
    const known = numbers.get(inode);
    if (known !== undefined) {
      (this.#nodes[known] as TreeNode).links++;
      return known;
    }
    const number = this.#nodes.length;
    numbers.set(inode, number);
    if (inode.type !== 'directory') {
      this.#nodes.push({ inode, links: 1, parent, names: [], byName: NO_NAMES });
      return number;
    }
    const names: TreeName[] = [];
    const byName = new Map<ByteString, number>();
    const node: TreeNode = { inode, links: 2, parent, names, byName };
    this.#nodes.push(node);
    for (const name of sortedNames(inode)) {
      const child = inode.children.get(name) as Inode;
      const below = this.#add(child, number, numbers);
      if (child.type === 'directory') node.links++;
      names.push({ name, number: below });
      byName.set(name, below);
    }
    return number;
  }
}
