import type { Inode } from './tree.ts';

/**
 * A layer's hard link to a name of the layers below becomes an inode of its own in the layer's tree, for a layer cannot hold half an inode. Which
 * inode below it really is, is remembered here and not in the tree: it is of use to `stack` only, which can then give both names one
 * inode. Encoding a layer's index loses it: layers that are stacked after decoding have two inodes, just as overlayfs
 * breaks hard links between layers.
 */
const origins = new WeakMap<Inode, Inode>();

export function rememberOrigin(own: Inode, below: Inode): void {
  origins.set(own, below);
}

/** The inode below that `own` is a name of. */
export function originOf(own: Inode): Inode | undefined {
  return origins.get(own);
}
