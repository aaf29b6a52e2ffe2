import { rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryName } from '#core/atomic-file.ts';
import { GearError } from '#core/errors.ts';
import { diskError } from './disk-error.ts';
import type { Layout } from './layout.ts';

/** Throws unless something can be written into the store. */
export async function checkWritable({ tmp }: Layout): Promise<void> {
  const { bavail } = await statfs(tmp);
  if (bavail === 0) throw new GearError('resource-exhausted', `the disk is full: ${tmp}`);
  const path = join(tmp, temporaryName());
  try {
    await writeFile(path, 'ok', { flag: 'wx' });
  } catch (error) {
    throw diskError(error, path);
  } finally {
    await rm(path, { force: true });
  }
}
