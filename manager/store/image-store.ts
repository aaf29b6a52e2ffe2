import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, writeAtomically } from '#core/atomic-file.ts';
import { GearError, isErrno } from '#core/errors.ts';
import { diskError } from './disk-error.ts';
import { decodeRecord, encodeRecord, imageId } from './image-record.ts';
import type { Layout } from './layout.ts';
import type { ImageRecord } from './record.ts';

const SUFFIX = '.json';

/** The records of images, a JSON file each. */
export class ImageStore {
  readonly #folder: string;

  constructor(layout: Layout) {
    this.#folder = layout.images;
  }

  /** Writes a record, durably, over one of the same image. Gives its id. */
  async put(record: ImageRecord): Promise<string> {
    const id = imageId(record);
    try {
      await writeAtomically(this.#path(id), encodeRecord(record));
    } catch (error) {
      throw diskError(error, this.#path(id));
    }
    return id;
  }

  /** Throws not-found, corrupt and unsupported. */
  async read(id: string): Promise<ImageRecord> {
    try {
      return decodeRecord(await readFile(this.#path(id), 'utf8'), this.#path(id));
    } catch (error) {
      throw isErrno(error, 'ENOENT') ? new GearError('not-found', `there is no image ${id}`) : error;
    }
  }

  /** Removes records, durably. */
  async remove(ids: readonly string[]): Promise<void> {
    for (const id of ids) await rm(this.#path(id), { force: true });
    await syncFolder(this.#folder);
  }

  /** The ids of all records. What a crash left half written is removed. */
  async list(): Promise<string[]> {
    const ids: string[] = [];
    for (const name of await readdir(this.#folder)) {
      if (name.endsWith(SUFFIX)) ids.push(name.slice(0, -SUFFIX.length));
      else if (name.startsWith('.tmp-')) await rm(join(this.#folder, name), { force: true });
    }
    return ids.sort();
  }

  #path(id: string): string {
    return join(this.#folder, id + SUFFIX);
  }
}
