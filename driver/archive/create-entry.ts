import { closeSync, constants, openSync, symlinkSync, writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Abortable } from '#core/abort.ts';
import { GearError } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { TarEntry } from '#core/tar/entry.ts';
import { showPath } from '#core/tar/path.ts';
import { mknod } from '../kernel/inode.ts';
import { setMetadata } from './metadata.ts';

/** Files up to this size (bytes) are written without a trip through the thread pool. */
const SMALL = 1024 * 1024;
const FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** Makes what an entry describes, with its content and metadata, at `path`, where nothing is. Not for directories and hard links. */
export async function createEntry(
  path: Buffer,
  entry: TarEntry,
  { signal, log }: Abortable & { log?: Logger | undefined } = {},
): Promise<void> {
  switch (entry.type) {
    case 'file':
      await (entry.size <= SMALL ? writeSmall(path, entry) : writeLarge(path, entry, signal));
      break;
    case 'symlink':
      symlinkSync(Buffer.from(entry.link, 'latin1'), path);
      break;
    case 'fifo':
    case 'character-device':
    case 'block-device':
      mknod(path, entry.type, 0o600, entry.major, entry.minor);
      break;
    case 'directory':
    case 'hard-link':
      throw new GearError('internal', `createEntry does not make a ${entry.type}`);
    default:
      entry.type satisfies never;
  }
  setMetadata(path, entry, { symlink: entry.type === 'symlink', log });
}

async function writeSmall(path: Buffer, entry: TarEntry): Promise<void> {
  const fd = openSync(path, FLAGS, 0o600);
  try {
    let written = 0;
    for await (const piece of entry.content) {
      for (let offset = 0; offset < piece.length; ) offset += writeSync(fd, piece, offset);
      written += piece.length;
    }
    checkLength(entry, written);
  } finally {
    closeSync(fd);
  }
}

async function writeLarge(path: Buffer, entry: TarEntry, signal: AbortSignal | undefined): Promise<void> {
  await using handle = await open(path, FLAGS, 0o600);
  let written = 0;
  for await (const piece of entry.content) {
    signal?.throwIfAborted();
    await writeWhole(handle, piece);
    written += piece.length;
  }
  checkLength(entry, written);
}

async function writeWhole(handle: FileHandle, piece: Buffer): Promise<void> {
  for (let offset = 0; offset < piece.length; ) {
    const { bytesWritten } = await handle.write(piece, offset);
    offset += bytesWritten;
  }
}

function checkLength(entry: TarEntry, written: number): void {
  if (written === entry.size) return;
  throw new GearError('corrupt', `${showPath(entry.path)} has ${written} bytes, its header says ${entry.size}`);
}
