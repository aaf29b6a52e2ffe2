import { readlinkSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Abortable } from '#core/abort.ts';
import { isErrno } from '#core/errors.ts';
import type { ByteString } from '#core/index/tree.ts';
import type { Logger } from '#core/log.ts';
import type { TarEntryType, TarHeader } from '#core/tar/entry.ts';
import { WHITEOUT_PREFIX } from '#core/tar/path.ts';
import { writeTar } from '#core/tar/writer.ts';
import { CHANGE_ADDED, CHANGE_DELETED, type Change } from './change.ts';
import {
  bytesOfPath,
  deviceOf,
  type FileStatus,
  FORMAT,
  isDirectory,
  namesIn,
  statusOfPath,
  toPath,
} from './file-status.ts';
import { metadataOf } from './metadata.ts';
import { Pacer } from './pacer.ts';

export interface TarOptions extends Abortable {
  /** For files that change while they are read. */
  readonly log?: Logger | undefined;
}

interface Item {
  readonly header: TarHeader;
  readonly content?: AsyncIterable<Uint8Array>;
}

const BLOCK = 256 * 1024;
const TYPES = new Map<number, TarEntryType>([
  [FORMAT.file, 'file'],
  [FORMAT.directory, 'directory'],
  [FORMAT.symlink, 'symlink'],
  [FORMAT.fifo, 'fifo'],
  [FORMAT.characterDevice, 'character-device'],
  [FORMAT.blockDevice, 'block-device'],
]);

/**
 * The changes (sorted by path, as `changes` gives them) as a layer tar, in the manner of Docker's ExportChanges: times cut to
 * whole seconds, `.wh.` files for what is deleted, later names of one inode as hard links, sockets left out. All xattrs but overlayfs's and SELinux's.
 * Contents come from `newRoot`, and nothing there is changed. A file that shrinks or grows while it is read is padded with zeros
 * or cut, with a warning; what vanishes is left out.
 */
export async function* tarOfChanges(
  newRoot: string,
  changes: readonly Change[],
  options: TarOptions = {},
): AsyncGenerator<Buffer> {
  yield* writeTar(itemsOf(bytesOfPath(newRoot), changes, options));
}

/** The whole tree at `root` as a layer tar, without an entry for the root. */
export async function* tarOfTree(root: string, options: TarOptions = {}): AsyncGenerator<Buffer> {
  yield* writeTar(itemsOf(bytesOfPath(root), namesBelow(bytesOfPath(root), ''), options));
}

function* namesBelow(root: ByteString, path: ByteString): Generator<Change> {
  for (const name of namesIn(toPath(root + path))) {
    const child = `${path}/${name}`;
    yield { path: child, kind: CHANGE_ADDED };
    if (isDirectory(statusOfPath(toPath(root + child)))) yield* namesBelow(root, child);
  }
}

async function* itemsOf(root: ByteString, changes: Iterable<Change>, options: TarOptions): AsyncGenerator<Item> {
  const pacer = new Pacer(options);
  const seen = new Map<string, ByteString>();
  for (const { path, kind } of changes) {
    if (pacer.due) await pacer.rest();
    if (kind === CHANGE_DELETED) {
      const item = whiteoutItem(root, path);
      if (item !== undefined) yield item;
      continue;
    }
    const status = statusOfPath(toPath(root + path));
    if (status === undefined) options.log?.debug({ path: showBytes(path) }, 'left out of the diff: it is gone');
    else yield* inodeItem(root, path, status, seen, options);
  }
}

/** A deleted name. None below what is no directory any more: replacing the directory deletes it. */
function whiteoutItem(root: ByteString, path: ByteString): Item | undefined {
  const slash = path.lastIndexOf('/');
  const parent = path.slice(0, slash);
  if (!isDirectory(statusOfPath(toPath(root + parent)))) return undefined;
  const name = `${parent}/${WHITEOUT_PREFIX}${path.slice(slash + 1)}`;
  return {
    header: {
      path: name.slice(1),
      type: 'file',
      mode: 0,
      uid: 0,
      gid: 0,
      // Docker writes the time of the diff; a constant lets one diff have one digest.
      mtimeSeconds: 0,
      mtimeNanoseconds: 0,
      size: 0,
      link: '',
      major: 0,
      minor: 0,
      xattrs: new Map(),
    },
  };
}

async function* inodeItem(
  root: ByteString,
  path: ByteString,
  status: FileStatus,
  seen: Map<string, ByteString>,
  options: TarOptions,
): AsyncGenerator<Item> {
  const full = toPath(root + path);
  const type = TYPES.get(status.mode & FORMAT.mask);
  if (type === undefined) return;
  const name = path.slice(1);
  const first = type !== 'directory' && status.links > 1 ? seen.get(status.inode) : undefined;
  if (first !== undefined) {
    yield { header: headerOf(full, name, status, 'hard-link', first) };
    return;
  }
  if (type === 'file') {
    await using handle = await openOrGone(full);
    if (handle === undefined) return;
    seen.set(status.inode, name);
    yield {
      header: headerOf(full, name, status, type, ''),
      content: contentOf(handle, status.size, path, options),
    };
    return;
  }
  if (type !== 'directory') seen.set(status.inode, name);
  const link = type === 'symlink' ? readlinkSync(full, { encoding: 'buffer' }).toString('latin1') : '';
  yield { header: headerOf(full, name, status, type, link) };
}

function headerOf(full: Buffer, name: ByteString, status: FileStatus, type: TarEntryType, link: ByteString): TarHeader {
  const metadata = metadataOf(full, status);
  metadata.xattrs.delete('security.selinux');
  const capability = metadata.xattrs.get('security.capability');
  if (capability !== undefined) metadata.xattrs.set('security.capability', withoutNamespace(capability));
  const isDevice = type === 'character-device' || type === 'block-device';
  return {
    ...metadata,
    mtimeNanoseconds: 0,
    path: type === 'directory' ? `${name}/` : name,
    type,
    size: type === 'file' ? status.size : 0,
    link,
    ...(isDevice ? deviceOf(status) : { major: 0, minor: 0 }),
  };
}

/**
 * A capability without the root user of the namespace that it was set in, which means nothing elsewhere: VFS_CAP_REVISION_3 becomes _2
 * (linux/capability.h; the top byte of the little-endian first word is the revision, revision 2 has 20 bytes).
 */
function withoutNamespace(capability: Buffer): Buffer {
  if (capability.length < 20 || capability[3] !== 3) return capability;
  const converted = Buffer.from(capability.subarray(0, 20));
  converted[3] = 2;
  return converted;
}

async function openOrGone(path: Buffer): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

async function* contentOf(
  handle: FileHandle,
  size: number,
  path: ByteString,
  { signal, log }: TarOptions,
): AsyncGenerator<Buffer> {
  let offset = 0;
  while (offset < size) {
    signal?.throwIfAborted();
    const block = Buffer.allocUnsafe(Math.min(BLOCK, size - offset));
    const { bytesRead } = await handle.read(block, 0, block.length, offset);
    if (bytesRead === 0) break;
    offset += bytesRead;
    yield block.subarray(0, bytesRead);
  }
  if (offset < size) {
    log?.warn({ path: showBytes(path), size, read: offset }, 'the file shrank while it was read; padded with zeros');
    while (offset < size) {
      const zeros = Buffer.alloc(Math.min(BLOCK, size - offset));
      offset += zeros.length;
      yield zeros;
    }
  } else if (log !== undefined && (await handle.stat()).size > size) {
    log.warn({ path: showBytes(path), size }, 'the file grew while it was read; cut');
  }
}

function showBytes(path: ByteString): string {
  return Buffer.from(path, 'latin1').toString();
}

/** Bytes of the regular files among the changes, each inode counted once. */
export async function diffSize(newRoot: string, changes: readonly Change[], options: Abortable = {}): Promise<number> {
  const root = bytesOfPath(newRoot);
  const pacer = new Pacer(options);
  const counted = new Set<string>();
  let size = 0;
  for (const { path, kind } of changes) {
    if (pacer.due) await pacer.rest();
    if (kind === CHANGE_DELETED) continue;
    const status = statusOfPath(toPath(root + path));
    if (status === undefined || (status.mode & FORMAT.mask) !== FORMAT.file || counted.has(status.inode)) continue;
    if (status.links > 1) counted.add(status.inode);
    size += status.size;
  }
  return size;
}
