import { lstatSync, type Stats } from 'node:fs';
import { isErrno } from '#core/errors.ts';
import { type Directory, type Tree, walk } from '#core/index/tree.ts';
import { readXattrs } from '../kernel/xattr.ts';

/** How many directories of a layer, not counting its root, its tar only implied. */
export function countImplied(tree: Tree): number {
  let count = 0;
  for (const { inode } of walk(tree.root)) if (inode.type === 'directory' && inode.implied === true) count++;
  return count;
}

/**
 * Gives directories that a layer's tar only implied the metadata that they have in the layers below: `lowers` are the roots of those, the topmost
 * first. The first that has the name decides; where that is no directory, or none has it, the default stays.
 */
export function inheritImplied(tree: Tree, lowers: readonly string[]): void {
  for (const { path, inode } of walk(tree.root)) {
    if (inode.type !== 'directory' || inode.implied !== true) continue;
    for (const lower of lowers) {
      const below = Buffer.concat([Buffer.from(`${lower}/`), Buffer.from(path, 'latin1')]);
      const stats = lstatOrUndefined(below);
      if (stats === undefined) continue;
      if (stats.isDirectory()) copyMetadata(inode, stats, below);
      break;
    }
  }
}

function lstatOrUndefined(path: Buffer): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    // A parent may be no directory there.
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

function copyMetadata(directory: Directory, stats: Stats, path: Buffer): void {
  directory.mode = stats.mode & 0o7777;
  directory.uid = stats.uid;
  directory.gid = stats.gid;
  directory.mtimeSeconds = Math.floor(stats.mtimeMs / 1000);
  directory.mtimeNanoseconds = 0;
  for (const [name, value] of readXattrs(path)) {
    if (!name.startsWith('trusted.')) directory.xattrs.set(name, value);
  }
}
