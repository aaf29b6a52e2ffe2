import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { unmountBelow } from '../../deploy/sandbox/cleanup.ts';

/** Where made images and built suites are kept between runs. May be deleted at any time. */
export const cacheFolder: string = process.env['GEAR_TEST_CACHE'] ?? '/var/cache/gear-test';

/**
 * The path of a thing in the cache; `make` makes it, at the path it is given, where it is missing. It appears whole or not at all.
 * The name should change when the recipe does.
 */
export async function cached(name: string, make: (path: string) => Promise<void>): Promise<string> {
  const path = join(cacheFolder, name);
  if (existsSync(path)) return path;
  const temporary = join(cacheFolder, `.${name}-${process.pid}`);
  await mkdir(dirname(temporary), { recursive: true });
  try {
    await make(temporary);
    if (!existsSync(path)) await rename(temporary, path);
  } finally {
    await unmountBelow(temporary);
    await rm(temporary, { recursive: true, force: true });
  }
  return path;
}
