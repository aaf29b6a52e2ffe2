import type { Digest } from '../digest.ts';

/**
 * Raw bytes as a string, one character (U+0000 to U+00FF) a byte: names in an image need not be UTF-8, and a string can be a
 * Map's key. `Buffer.from(name, 'latin1')` gives the bytes back. Comparing two such strings with `<` compares their bytes.
 */
export type ByteString = string;

/** What every inode has. */
export interface Metadata {
  /** The twelve permission bits (07777). */
  mode: number;
  uid: number;
  gid: number;
  /** Modification time: seconds since 1970 (may be negative) and nanoseconds (0 to 999,999,999). */
  mtimeSeconds: number;
  mtimeNanoseconds: number;
  /** Values are raw bytes. Never names of overlayfs itself (`trusted.overlay.*`, `user.overlay.*`). */
  xattrs: Map<ByteString, Buffer>;
}

export interface Directory extends Metadata {
  readonly type: 'directory';
  readonly children: Map<ByteString, Inode>;
  /** In a layer: hides what the layers below have in this directory. Always false in an image's tree. */
  opaque: boolean;
  /** In a layer: the tar named something below this directory but never the directory itself, so its metadata is only the default. */
  implied?: true | undefined;
}

export interface RegularFile extends Metadata {
  readonly type: 'file';
  /** Bytes. */
  size: number;
  /** Of the bytes; undefined exactly when `size` is 0. */
  digest: Digest | undefined;
  /** Digests of the chunks, 32 bytes each, concatenated; empty unless `size` is more than one chunk. */
  chunkDigests: Buffer;
}

export interface Symlink extends Metadata {
  readonly type: 'symlink';
  readonly target: ByteString;
}

export interface Device extends Metadata {
  readonly type: 'character-device' | 'block-device';
  readonly major: number;
  readonly minor: number;
}

export interface Fifo extends Metadata {
  readonly type: 'fifo';
}

/** In a layer: the name is deleted from the layers below. Never in an image's tree. */
export interface Whiteout {
  readonly type: 'whiteout';
}

/** Two names of one inode (hard links) hold the same object. */
export type Inode = Directory | RegularFile | Symlink | Device | Fifo | Whiteout;
/** An inode that has metadata of its own. */
export type RealInode = Exclude<Inode, Whiteout>;

export const DEFAULT_CHUNK_SIZE = 128 * 1024;

/** The tree of an image, or of one layer (then whiteouts and opaque directories may occur). */
export interface Tree {
  readonly kind: 'image' | 'layer';
  /** Bytes; see index.proto. */
  readonly chunkSize: number;
  readonly root: Directory;
}

/** A directory as it is made where a tar names a path but not its parents. */
export function emptyDirectory(mode = 0o755): Directory {
  return {
    type: 'directory',
    mode,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    xattrs: new Map(),
    children: new Map(),
    opaque: false,
  };
}

/** The names of a directory in ascending order of their bytes. */
export function sortedNames(directory: Directory): ByteString[] {
  return [...directory.children.keys()].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}

/** Every name below (and not including) the root, each directory before its children, names in order. Paths have no slash in front. */
export function* walk(
  root: Directory,
): Generator<{ path: ByteString; name: ByteString; inode: Inode; parent: Directory }> {
  const stack: { directory: Directory; prefix: ByteString; names: ByteString[]; next: number }[] = [
    { directory: root, prefix: '', names: sortedNames(root), next: 0 },
  ];
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const name = top.names[top.next++];
    if (name === undefined) {
      stack.pop();
      continue;
    }
    const inode = top.directory.children.get(name) as Inode;
    const path = top.prefix + name;
    yield { path, name, inode, parent: top.directory };
    if (inode.type === 'directory')
      stack.push({ directory: inode, prefix: `${path}/`, names: sortedNames(inode), next: 0 });
  }
}
