import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from '#core/atomic-file.ts';
import { GearError, orUndefined } from '#core/errors.ts';

/** Node ids of the object filesystem hold the slot in their upper 32 bits. */
const MAX_SLOT = 0xffff_fffe;

/** So many numbers are taken at a time: flushing the counter for each would be the dearest step of a small image. Those left over at an end are never used. */
const BLOCK = 256;

/**
 * Gives every image a number that no other image of this node ever had: the kernel may still know node ids of an image that is
 * gone. The file holds the highest number that may have been given, and is written before that one is used.
 */
export class Slots {
  readonly #file: string;
  #last: number;
  #taken: number;
  #taking: Promise<void> | undefined;

  private constructor(file: string, last: number) {
    this.#file = file;
    this.#last = last;
    this.#taken = last;
  }

  /** `images` is the folder of the images. */
  static async open(images: string): Promise<Slots> {
    const file = join(images, 'last-slot');
    const text = await orUndefined(readFile(file, 'utf8'), 'ENOENT');
    const last = text === undefined ? 0 : Number(text);
    if (!Number.isInteger(last) || last < 0 || last > MAX_SLOT) {
      throw new GearError('corrupt', `${file} does not hold a number: ${JSON.stringify(text?.slice(0, 40))}`);
    }
    return new Slots(file, last);
  }

  async next(): Promise<number> {
    if (this.#last >= MAX_SLOT) throw new GearError('resource-exhausted', `${this.#file}: no numbers for images left`);
    const slot = ++this.#last;
    while (slot > this.#taken) {
      this.#taking ??= this.#take().finally(() => {
        this.#taking = undefined;
      });
      await this.#taking;
    }
    return slot;
  }

  async #take(): Promise<void> {
    const upTo = Math.min(this.#taken + BLOCK, MAX_SLOT);
    await writeAtomically(this.#file, `${upTo}\n`);
    this.#taken = upTo;
  }
}
