import { open } from 'node:fs/promises';
import { isErrno } from '#core/errors.ts';
import { attachLoop } from '../loop.ts';
import { mount } from '../mount.ts';
import { readAhead } from '../read-ahead.ts';

/** How an image is mounted: as a file (kernel 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE), or through a loop device. */
export type ErofsMethod = 'file' | 'loop';

// Some 80,000 files.
const READ_AHEAD = 16 << 20;

/**
 * Mounts an EROFS image read-only at `target` (an existing folder). Without `method` the file itself is tried first. Throws as fs does; EUCLEAN
 * means a damaged image.
 */
export async function mountIndexImage(
  image: string,
  target: string,
  { method }: { method?: ErofsMethod | undefined } = {},
): Promise<ErofsMethod> {
  {
    // EROFS reads metadata block by block, each when it is asked for: a walk of a cold image would wait for each.
    await using file = await open(image, 'r');
    await readAhead(file.fd, READ_AHEAD);
  }
  const record = { type: 'erofs', source: image, target, options: ['ro', 'nosuid', 'nodev', 'noexec'] };
  if (method !== 'loop') {
    try {
      await mount(record);
      return 'file';
    } catch (error) {
      // "Block device required": an older kernel, or one built without.
      if (method === 'file' || !isErrno(error, 'ENOTBLK')) throw error;
    }
  }
  const { device, handle } = await attachLoop(image);
  await using _ = handle;
  await mount({ ...record, source: device });
  return 'loop';
}
