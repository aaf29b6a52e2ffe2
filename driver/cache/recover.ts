import { type Dirent, lstatSync, readdirSync, rmSync } from 'node:fs';
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Abortable } from '#core/abort.ts';
import { Hasher, isDigest } from '#core/digest.ts';
import { orUndefined } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { syncfs } from '../kernel/inode.ts';
import { currentBootId, readMark, writeMark } from './flush-mark.ts';
import type { CacheLayout } from './layout.ts';

const PIECE = 1024 * 1024;

export interface Recovery {
  /** Files that had not been flushed for certain and were read again. */
  readonly checked: number;
  /** Those of them that were damaged and are gone. */
  readonly dropped: number;
}

/** Gives the digest that an object's file is named by and its path, for every file below a folder of objects. */
async function* objectFiles(folder: string): AsyncGenerator<{ digest: string; path: string }> {
  for (const prefix of await names(folder)) {
    if (!prefix.isDirectory()) continue;
    const below = join(folder, prefix.name);
    for (const entry of await names(below)) {
      if (entry.isFile()) yield { digest: prefix.name + entry.name, path: join(below, entry.name) };
    }
  }
}

async function names(folder: string): Promise<Dirent[]> {
  return (await orUndefined(readdir(folder, { withFileTypes: true }), 'ENOENT', 'ENOTDIR')) ?? [];
}

async function matches(path: string, digest: string, { signal }: Abortable): Promise<boolean> {
  if (!isDigest(digest)) return false;
  const hasher = new Hasher();
  await using handle = await open(path, 'r');
  const buffer = Buffer.allocUnsafe(PIECE);
  for (;;) {
    signal?.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, PIECE);
    if (bytesRead === 0) return hasher.digest() === digest;
    hasher.update(buffer.subarray(0, bytesRead));
  }
}

/**
 * Makes the caches trustworthy before anything is mounted over them. In the same run of the kernel they are; after a reboot whatever is not older than
 * the mark may never have reached the disk: it is read, and dropped where its digest is wrong. Also makes the folders and takes away temporary files.
 * Partial objects need nothing: their chunks are verified again when they are first used.
 */
export async function recoverCaches(layout: CacheLayout, log: Logger, options: Abortable = {}): Promise<Recovery> {
  const { paths, partial, mark } = layout;
  for (const folder of [paths.public, paths.private, partial]) await mkdir(folder, { recursive: true, mode: 0o700 });
  sweepTemporaries(layout);
  const bootId = currentBootId();
  const known = readMark(mark);
  if (known?.bootId === bootId) return { checked: 0, dropped: 0 };
  const started = Date.now();
  const trustedBefore = known?.time ?? 0;
  const folders = [paths.public, ...(await names(paths.private)).map(({ name }) => join(paths.private, name))];
  // Names of one inode are read once.
  const verdicts = new Map<number, boolean>();
  let dropped = 0;
  for (const folder of folders) {
    for await (const { digest, path } of objectFiles(folder)) {
      const { ino, mtimeMs } = lstatSync(path);
      if (mtimeMs < trustedBefore) continue;
      const good = verdicts.get(ino) ?? (await matches(path, digest, options));
      verdicts.set(ino, good);
      if (good) continue;
      dropped++;
      log.warn({ path }, 'dropped: damaged when the machine went down');
      await rm(path, { force: true });
    }
  }
  await flushAndMark(layout, { bootId, time: started });
  const recovery = { checked: verdicts.size, dropped };
  if (recovery.checked > 0) log.info(recovery, 'caches checked after a reboot');
  return recovery;
}

/** Takes away what a process that is dead was about to move into `public/`. */
export function sweepTemporaries({ partial }: CacheLayout): void {
  for (const name of readdirSync(partial)) if (name.startsWith('.tmp-')) rmSync(join(partial, name), { force: true });
}

async function flushAndMark({ paths, mark }: CacheLayout, content: { bootId: string; time: number }): Promise<void> {
  await using handle = await open(paths.public, 'r');
  await syncfs(handle.fd);
  writeMark(mark, content);
}
