import { hash } from 'node:crypto';
import { type Inode, type RealInode, type Tree, walk } from '#core/index/tree.ts';
import type { TreeEntry, TreeManifest } from './tree.ts';

/** What a mount of an image's tree should look like. Throws for a whiteout: a layer's tree has no looks of its own. */
export function manifestOf(tree: Tree): TreeManifest {
  const manifest: TreeManifest = new Map([['', entryOf(tree.root, 1, undefined)]]);
  const links = new Map<Inode, number>();
  for (const { inode } of walk(tree.root)) links.set(inode, (links.get(inode) ?? 0) + 1);
  const firstNames = new Map<Inode, string>();
  for (const { path, inode } of walk(tree.root)) {
    if (inode.type === 'whiteout') throw new Error(`${path} is a whiteout`);
    const first = inode.type === 'directory' ? undefined : firstNames.get(inode);
    firstNames.set(inode, first ?? path);
    manifest.set(path, entryOf(inode, links.get(inode) ?? 0, first));
  }
  return manifest;
}

function sizeOf(inode: RealInode): number | undefined {
  if (inode.type === 'directory') return undefined;
  if (inode.type === 'file') return inode.size;
  return inode.type === 'symlink' ? inode.target.length : 0;
}

/** As new_encode_dev of linux/kdev_t.h has it. */
function deviceOf(inode: RealInode): bigint | undefined {
  if (inode.type !== 'character-device' && inode.type !== 'block-device') return undefined;
  const { major, minor } = inode;
  return BigInt((minor & 0xff) + major * 256 + (minor >> 8) * 2 ** 20);
}

function entryOf(inode: RealInode, links: number, sameAs: string | undefined): TreeEntry {
  const isDirectory = inode.type === 'directory';
  return {
    type: inode.type,
    mode: inode.type === 'symlink' ? 0o777 : inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    mtime: BigInt(inode.mtimeSeconds) * 1_000_000_000n + BigInt(inode.mtimeNanoseconds),
    nlink: isDirectory ? undefined : links,
    size: sizeOf(inode),
    sameAs,
    device: deviceOf(inode),
    target: inode.type === 'symlink' ? inode.target : undefined,
    xattrs: Object.fromEntries([...inode.xattrs].sort().map(([name, value]) => [name, value.toString('hex')])),
    digest: inode.type === 'file' ? (inode.digest ?? hash('sha256', '')) : undefined,
  };
}
