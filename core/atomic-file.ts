import { randomBytes } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** A name that nobody else has, for a file or folder that is not final yet. Starts with ".tmp-" so that a sweep can tell. */
export function temporaryName(): string {
  return `.tmp-${process.pid}-${randomBytes(8).toString('hex')}`;
}

/** Flushes a folder, so that names created or renamed in it survive a power cut. */
export async function syncFolder(path: string): Promise<void> {
  await using handle = await open(path, 'r');
  await handle.sync();
}

/**
 * Writes a file whole: to a temporary name in the same folder, flushed unless `flush` is false, then renamed. Whoever reads `path` sees the old
 * content or the new one. Creates the folder where it is missing; leaves nothing behind when it fails.
 */
export async function writeAtomically(
  path: string,
  data: string | Uint8Array,
  { mode = 0o644, flush = true }: { mode?: number; flush?: boolean } = {},
): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true });
  const temporary = join(folder, temporaryName());
  try {
    {
      await using handle = await open(temporary, 'wx', mode);
      await handle.writeFile(data);
      if (flush) await handle.sync();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  if (flush) await syncFolder(folder);
}
