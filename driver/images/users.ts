import { lstat, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { digestOf } from '#core/digest.ts';
import { orUndefined } from '#core/errors.ts';

/** Lies in each folder that holds layers, so that a folder whose disk is not mounted is told from one whose layers are gone. */
export const HOME_MARK = '.gear-home';

/**
 * Who uses an image: a file for each layer, named by the digest of the layer's folder and holding its path. The file comes before the layer and
 * goes after it, so a crash leaves a user too many, never one too few; a user whose folder is gone from a home that is there is dropped when the image is looked at.
 */
export class ImageUsers {
  readonly #folder: string;

  /** `image` is the image's folder. */
  constructor(image: string) {
    this.#folder = join(image, 'users');
  }

  /** Safe to repeat. */
  async add(layerFolder: string): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    await writeFile(join(this.#folder, digestOf(Buffer.from(layerFolder))), layerFolder);
  }

  /** Safe to repeat. */
  async remove(layerFolder: string): Promise<void> {
    await rm(join(this.#folder, digestOf(Buffer.from(layerFolder))), { force: true });
  }

  /** The folders of the layers that use the image. Drops those that are gone. */
  async list(): Promise<string[]> {
    const names = (await orUndefined(readdir(this.#folder), 'ENOENT')) ?? [];
    const users: string[] = [];
    for (const name of names) {
      const file = join(this.#folder, name);
      const layerFolder = await readFile(file, 'utf8');
      if (layerFolder === '' || (await isGone(layerFolder))) await rm(file, { force: true });
      else users.push(layerFolder);
    }
    return users;
  }
}

async function isGone(layerFolder: string): Promise<boolean> {
  if ((await orUndefined(lstat(layerFolder), 'ENOENT', 'ENOTDIR')) !== undefined) return false;
  return (await orUndefined(lstat(join(dirname(layerFolder), HOME_MARK)), 'ENOENT', 'ENOTDIR')) !== undefined;
}
