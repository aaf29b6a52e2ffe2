import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GearError, orUndefined } from '#core/errors.ts';

const FOLDER = '.gear';
const FILES = ['descriptor.json', 'index'];
/** A descriptor is a few hundred bytes. */
const MAX_DESCRIPTOR = 64 * 1024;

/** What a Gear layer brought. */
export interface GearFiles {
  readonly descriptor: Buffer;
  /** Absolute path. */
  readonly indexFile: string;
}

/**
 * Looks whether what a layer brought makes it a Gear layer: it holds nothing but `.gear/` with the descriptor and the index. Gives undefined for an
 * ordinary layer, one with a `.gear` among other files included. Throws invalid-argument for a layer that has only a `.gear/`, but not as it should be.
 */
export async function gearFilesOf(diff: string): Promise<GearFiles | undefined> {
  const names = await readdir(diff);
  if (names.length !== 1 || names[0] !== FOLDER) return undefined;
  const folder = join(diff, FOLDER);
  const entries = await orUndefined(readdir(folder, { withFileTypes: true }), 'ENOTDIR');
  if (entries === undefined) return undefined;
  const sound =
    entries.every((entry) => entry.isFile() && FILES.includes(entry.name)) && entries.length === FILES.length;
  if (!sound) {
    const found = entries.map(({ name }) => JSON.stringify(name)).join(', ');
    throw new GearError(
      'invalid-argument',
      `a Gear layer's .gear/ holds ${FILES.join(' and ')}, not ${found || 'nothing'}: convert the image again`,
    );
  }
  const descriptor = await readFile(join(folder, 'descriptor.json'));
  if (descriptor.length > MAX_DESCRIPTOR) {
    throw new GearError(
      'invalid-argument',
      `.gear/descriptor.json has ${descriptor.length} bytes, more than ${MAX_DESCRIPTOR}`,
    );
  }
  return { descriptor, indexFile: join(folder, 'index') };
}
