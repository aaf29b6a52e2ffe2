import { constants, copyFileSync, linkSync, mkdirSync, readlinkSync, symlinkSync } from 'node:fs';
import { copyFile, open } from 'node:fs/promises';
import type { Abortable } from '#core/abort.ts';
import { GearError } from '#core/errors.ts';
import type { ByteString } from '#core/index/tree.ts';
import type { Logger } from '#core/log.ts';
import { mknod } from '../kernel/inode.ts';
import { deviceOf, type FileStatus, FORMAT, isDirectory, namesIn, statusOfPath, toPath } from './file-status.ts';
import { copyMetadata } from './metadata.ts';
import { Pacer } from './pacer.ts';

/** Files up to this size (bytes) are copied without a trip through the thread pool. */
const SMALL = 256 * 1024;
const BLOCK = 1024 * 1024;
/** The unit in which holes are found (bytes); no filesystem has finer ones that matter. */
const PAGE = 4096;
const ZEROS = Buffer.alloc(PAGE);
const { COPYFILE_EXCL, COPYFILE_FICLONE } = constants;

/** Copies content, holes as holes where the file has any. `target` must not exist. */
async function copyContent(source: Buffer, target: Buffer, status: FileStatus, { signal }: Abortable): Promise<void> {
  if (status.allocated < status.size) {
    await copySparse(source, target, status.size, { signal });
  } else if (status.size <= SMALL) {
    copyFileSync(source, target, COPYFILE_EXCL | COPYFILE_FICLONE);
  } else {
    await copyFile(source, target, COPYFILE_EXCL | COPYFILE_FICLONE);
  }
}

async function copySparse(source: Buffer, target: Buffer, size: number, { signal }: Abortable): Promise<void> {
  await using from = await open(source, 'r');
  await using to = await open(target, 'wx', 0o600);
  await to.truncate(size);
  const block = Buffer.allocUnsafe(Math.min(BLOCK, Math.max(size, 1)));
  for (let offset = 0; offset < size; ) {
    signal?.throwIfAborted();
    const { bytesRead } = await from.read(block, 0, block.length, offset);
    if (bytesRead === 0) break;
    for (const [start, end] of dataIn(block.subarray(0, bytesRead))) {
      await to.write(block, start, end - start, offset + start);
    }
    offset += bytesRead;
  }
}

/** The parts of a block that are not pages of zeros. */
function* dataIn(block: Buffer): Generator<[start: number, end: number]> {
  let start = -1;
  for (let offset = 0; offset < block.length; offset += PAGE) {
    const page = block.subarray(offset, offset + PAGE);
    const empty = page.equals(page.length === PAGE ? ZEROS : ZEROS.subarray(0, page.length));
    if (empty && start >= 0) {
      yield [start, offset];
      start = -1;
    } else if (!empty && start < 0) start = offset;
  }
  if (start >= 0) yield [start, block.length];
}

export interface CopyOptions extends Abortable {
  readonly log?: Logger | undefined;
}

/**
 * Copies one inode that is no directory, with all its metadata, to `target`, which must not exist. A socket has nothing to copy: gives false.
 */
export async function copyInode(
  source: Buffer,
  target: Buffer,
  status: FileStatus,
  options: CopyOptions = {},
): Promise<boolean> {
  switch (status.mode & FORMAT.mask) {
    case FORMAT.file:
      await copyContent(source, target, status, options);
      break;
    case FORMAT.symlink:
      symlinkSync(readlinkSync(source, { encoding: 'buffer' }), target);
      break;
    case FORMAT.fifo:
      mknod(target, 'fifo', 0o600);
      break;
    case FORMAT.characterDevice:
    case FORMAT.blockDevice: {
      const { major, minor } = deviceOf(status);
      const type = (status.mode & FORMAT.mask) === FORMAT.blockDevice ? 'block-device' : 'character-device';
      mknod(target, type, 0o600, major, minor);
      break;
    }
    case FORMAT.socket:
      return false;
    default:
      throw new GearError('unsupported', `${source.toString()} has a type that cannot be copied`);
  }
  copyMetadata(source, target, status, { log: options.log });
  return true;
}

/**
 * Copies what is in the folder `source`, and the folder's own metadata, into the folder `target`, which exists and is empty: hard links among the
 * copied stay hard links, holes stay holes, times are exact. Sockets are left out.
 */
export async function copyTree(source: ByteString, target: ByteString, options: CopyOptions = {}): Promise<void> {
  const status = statusOfPath(toPath(source));
  if (!isDirectory(status)) throw new GearError('not-found', `${toPath(source).toString()} is not a directory`);
  await copyDirectory(source, target, status, new Map(), new Pacer(options), options);
}

async function copyDirectory(
  source: ByteString,
  target: ByteString,
  status: FileStatus,
  copied: Map<string, Buffer>,
  pacer: Pacer,
  options: CopyOptions,
): Promise<void> {
  for (const name of namesIn(toPath(source))) {
    if (pacer.due) await pacer.rest();
    const from = `${source}/${name}`;
    const to = `${target}/${name}`;
    const child = statusOfPath(toPath(from));
    if (child === undefined) continue;
    if (isDirectory(child)) {
      mkdirSync(toPath(to), 0o700);
      await copyDirectory(from, to, child, copied, pacer, options);
      continue;
    }
    const first = child.links > 1 ? copied.get(child.inode) : undefined;
    if (first !== undefined) linkSync(first, toPath(to));
    else if (await copyInode(toPath(from), toPath(to), child, options)) {
      if (child.links > 1) copied.set(child.inode, toPath(to));
    }
  }
  copyMetadata(toPath(source), toPath(target), status, { log: options.log });
}
