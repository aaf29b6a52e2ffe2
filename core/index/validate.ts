import { GearError } from '../errors.ts';
import { showPath, WHITEOUT_PREFIX } from '../tar/path.ts';
import { chunkDigestBytes } from './chunks.ts';
import { type IndexLimits, MAX_CHUNK_SIZE, MAX_ID, MAX_MAJOR, MAX_MINOR, MIN_CHUNK_SIZE } from './limits.ts';
import type { ByteString, Metadata, RealInode, RegularFile, Tree } from './tree.ts';
import { isOverlayXattr } from './xattrs.ts';

/** Throws the error for a tree that breaks a rule. When an index is written that is the caller's mistake, when one is read the index is corrupt. */
export type Refuse = (problem: string) => GearError;

export const refuseWriting: Refuse = (problem) =>
  new GearError('invalid-argument', `no index can hold this tree: ${problem}`);
export const refuseReading: Refuse = (problem) => new GearError('corrupt', `the index is not valid: ${problem}`);

export function checkChunkSize(chunkSize: number, refuse: Refuse): void {
  const isPowerOfTwo = Number.isSafeInteger(chunkSize) && 2 ** Math.round(Math.log2(chunkSize)) === chunkSize;
  if (!isPowerOfTwo || chunkSize < MIN_CHUNK_SIZE || chunkSize > MAX_CHUNK_SIZE) {
    throw refuse(
      `its chunk size is ${chunkSize}; powers of two from ${MIN_CHUNK_SIZE} to ${MAX_CHUNK_SIZE} are allowed`,
    );
  }
}

/** One component of a path, as it may stand in an index. */
export function checkName(name: ByteString, limits: IndexLimits, refuse: Refuse): void {
  if (name === '' || name === '.' || name === '..') throw refuse(`an entry has the name ${showPath(name)}`);
  if (name.length > limits.nameBytes) {
    throw refuse(`a name has ${name.length} bytes, the limit is ${limits.nameBytes}: ${showPath(name)}`);
  }
  if (name.includes('/') || name.includes('\0')) throw refuse(`the name ${showPath(name)} contains a slash or NUL`);
  // In a tar again, the name would delete another.
  if (name.startsWith(WHITEOUT_PREFIX)) throw refuse(`the name ${showPath(name)} is a whiteout's`);
}

/** Everything about an inode but its place; `name` is for errors. */
export function checkInode(
  inode: RealInode,
  name: ByteString,
  { kind, chunkSize }: Pick<Tree, 'kind' | 'chunkSize'>,
  limits: IndexLimits,
  refuse: Refuse,
): void {
  const fail = (problem: string) => refuse(`${showPath(name)} ${problem}`);
  checkMetadata(inode, limits, fail);
  switch (inode.type) {
    case 'directory':
      if (kind === 'image' && inode.opaque) throw fail('is opaque, in the tree of an image');
      if (kind === 'image' && inode.implied === true) throw fail('is implied, in the tree of an image');
      break;
    case 'file': {
      const { size, digest, chunkDigests } = inode;
      if (!isCount(size)) throw fail(`has the size ${size}`);
      if ((size === 0) !== (digest === undefined))
        throw fail(`has ${size} bytes and ${digest === undefined ? 'no' : 'a'} digest`);
      const expected = chunkDigestBytes(size, chunkSize);
      if (chunkDigests.length !== expected) {
        throw fail(`has ${size} bytes and ${chunkDigests.length} bytes of chunk digests instead of ${expected}`);
      }
      break;
    }
    case 'symlink':
      if (inode.target === '' || inode.target.length > limits.targetBytes || inode.target.includes('\0')) {
        throw fail(`has a target of ${inode.target.length} bytes; 1 to ${limits.targetBytes} without NUL are allowed`);
      }
      break;
    case 'character-device':
    case 'block-device': {
      const { major, minor } = inode;
      if (!isCount(major) || !isCount(minor) || major > MAX_MAJOR || minor > MAX_MINOR) {
        throw fail(`is the device ${major}:${minor}; Linux has up to ${MAX_MAJOR}:${MAX_MINOR}`);
      }
      // To overlayfs that is a whiteout.
      if (inode.type === 'character-device' && major === 0 && minor === 0) throw fail('is the character device 0:0');
      break;
    }
    case 'fifo':
      break;
  }
}

function checkMetadata(inode: Metadata, limits: IndexLimits, fail: Refuse): void {
  const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = inode;
  if (!isCount(mode) || mode > 0o7777) throw fail(`has the mode ${mode.toString(8)}`);
  if (!isCount(uid) || uid > MAX_ID || !isCount(gid) || gid > MAX_ID) throw fail(`has the owner ${uid}:${gid}`);
  if (!Number.isSafeInteger(mtimeSeconds)) throw fail(`was modified at ${mtimeSeconds} s`);
  if (!isCount(mtimeNanoseconds) || mtimeNanoseconds > 999_999_999)
    throw fail(`has ${mtimeNanoseconds} ns in its time`);
  if (xattrs.size === 0) return;
  if (xattrs.size > limits.xattrs) throw fail(`has ${xattrs.size} attributes, the limit is ${limits.xattrs}`);
  for (const [name, value] of xattrs) {
    if (name === '' || name.includes('\0')) throw fail('has an attribute with an empty name or NUL in it');
    if (name.length > limits.xattrNameBytes) {
      throw fail(`has an attribute name of ${name.length} bytes, the limit is ${limits.xattrNameBytes}`);
    }
    if (value.length > limits.xattrBytes) {
      throw fail(`has ${value.length} bytes in the attribute ${showPath(name)}, the limit is ${limits.xattrBytes}`);
    }
    if (isOverlayXattr(name)) throw fail(`has the attribute ${showPath(name)}, which is an order to overlayfs`);
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

/** The rules that regular files keep together: one digest is one content, and all are not more than the limit. */
export class ObjectRules {
  readonly #objects = new Map<string, RegularFile>();
  readonly #limits: IndexLimits;
  readonly #refuse: Refuse;
  #totalBytes = 0;

  constructor(limits: IndexLimits, refuse: Refuse) {
    this.#limits = limits;
    this.#refuse = refuse;
  }

  /** Takes the next file, and gives the first one with the same content. */
  add(file: RegularFile, name: ByteString): RegularFile {
    this.#totalBytes += file.size;
    const { totalBytes } = this.#limits;
    if (this.#totalBytes > totalBytes) throw this.#refuse(`its files have more than ${totalBytes} bytes`);
    if (file.digest === undefined) return file;
    const first = this.#objects.get(file.digest);
    if (first === undefined) {
      this.#objects.set(file.digest, file);
      return file;
    }
    if (first.size !== file.size || !first.chunkDigests.equals(file.chunkDigests)) {
      throw this.#refuse(
        `${showPath(name)} has the digest ${file.digest}, but another size or other chunks than before`,
      );
    }
    return first;
  }
}
