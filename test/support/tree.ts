import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { xattrsOf } from './xattrs.ts';

/** All that can be seen of one name in a directory tree. */
export interface TreeEntry {
  readonly type: 'file' | 'directory' | 'symlink' | 'character-device' | 'block-device' | 'fifo' | 'socket';
  /** Twelve bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Nanoseconds since 1970. */
  readonly mtime: bigint;
  /** Link count; undefined of a directory, where filesystems count differently. */
  readonly nlink: number | undefined;
  /** Bytes; undefined of a directory. */
  readonly size: number | undefined;
  /** The first path (in byte order) that is the same inode, where there are several. */
  readonly sameAs: string | undefined;
  /** Device number. */
  readonly device: bigint | undefined;
  readonly target: string | undefined;
  /** Values in hexadecimal. */
  readonly xattrs: Readonly<Record<string, string>>;
  /** sha256 of a regular file's bytes, in hexadecimal; undefined when it was not asked for. */
  readonly digest: string | undefined;
}

/** Path below the root ('' is the root itself; latin1 of its bytes) -> entry. */
export type TreeManifest = Map<string, TreeEntry>;

export interface TreeOptions {
  /** Read the regular files too. Default true. */
  readonly content?: boolean;
  /** Paths (and what is below them) that are left out, e.g. mount points that the engine makes. */
  readonly without?: readonly string[];
}

function typeOf(mode: number): TreeEntry['type'] {
  switch (mode & constants.S_IFMT) {
    case constants.S_IFREG:
      return 'file';
    case constants.S_IFDIR:
      return 'directory';
    case constants.S_IFLNK:
      return 'symlink';
    case constants.S_IFCHR:
      return 'character-device';
    case constants.S_IFBLK:
      return 'block-device';
    case constants.S_IFIFO:
      return 'fifo';
    default:
      return 'socket';
  }
}

/** The sha256 of a file's bytes, in hexadecimal. */
export async function fileDigest(path: Buffer | string): Promise<string> {
  const hash = createHash('sha256');
  await using handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  for await (const piece of handle.readableWebStream()) hash.update(piece as Uint8Array);
  return hash.digest('hex');
}

/** Everything below `root`, entry by entry, as the kernel shows it. Follows no symlink. */
export async function treeOf(root: string, { content = true, without = [] }: TreeOptions = {}): Promise<TreeManifest> {
  const manifest: TreeManifest = new Map();
  const firstNames = new Map<string, string>();
  const skipped = new Set(without);
  const top = Buffer.from(root);
  const visit = async (path: string): Promise<void> => {
    if (skipped.has(path)) return;
    const full = path === '' ? top : Buffer.concat([top, Buffer.from(`/${path}`, 'latin1')]);
    const stat = await lstat(full, { bigint: true });
    const type = typeOf(Number(stat.mode));
    const isDirectory = type === 'directory';
    const isDevice = type === 'character-device' || type === 'block-device';
    const inode = `${stat.dev}:${stat.ino}`;
    const sameAs = !isDirectory && stat.nlink > 1n ? firstNames.get(inode) : undefined;
    if (!isDirectory && sameAs === undefined) firstNames.set(inode, path);
    manifest.set(path, {
      type,
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      mtime: stat.mtimeNs,
      nlink: isDirectory ? undefined : Number(stat.nlink),
      size: isDirectory ? undefined : Number(stat.size),
      sameAs,
      device: isDevice ? stat.rdev : undefined,
      target: type === 'symlink' ? (await readlink(full, 'buffer')).toString('latin1') : undefined,
      xattrs: xattrsOf(full),
      digest: content && type === 'file' ? await fileDigest(full) : undefined,
    });
    if (!isDirectory) return;
    const names = (await readdir(full, 'buffer')).map((name) => name.toString('latin1')).sort();
    for (const name of names) await visit(path === '' ? name : `${path}/${name}`);
  };
  await visit('');
  return manifest;
}

const shown = (value: unknown): string =>
  typeof value === 'bigint' ? String(value) : (JSON.stringify(value) ?? 'undefined');

/** What differs between two trees, a line each ("path: mode 420 is not 493"); empty when they look the same. */
export function diffTrees(
  a: TreeManifest,
  b: TreeManifest,
  { ignore = [] }: { ignore?: readonly (keyof TreeEntry)[] } = {},
): string[] {
  const differences: string[] = [];
  for (const path of [...new Set([...a.keys(), ...b.keys()])].sort()) {
    const [left, right] = [a.get(path), b.get(path)];
    const name = JSON.stringify(path);
    if (left === undefined || right === undefined) {
      differences.push(`${name}: only in the ${left === undefined ? 'second' : 'first'} tree`);
      continue;
    }
    for (const key of Object.keys(left) as (keyof TreeEntry)[]) {
      if (ignore.includes(key)) continue;
      if (shown(left[key]) !== shown(right[key]))
        differences.push(`${name}: ${key} ${shown(left[key])} is not ${shown(right[key])}`);
    }
  }
  return differences;
}
