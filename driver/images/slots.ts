import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from '#core/atomic-file.ts';
import { GearError, orUndefined } from '#core/errors.ts';

/** Node ids of the object filesystem hold the slot in their upper 32 bits. */
const MAX_SLOT = 0xffff_fffe;

/**
 * Gives every image a number that no other image of this node ever had: the kernel may still know node ids of an image that is
 * gone. The counter is written before the number is used.
 */
export class Slots {
  readonly #file: string;
  #last: number;

  private constructor(file: string, last: number) {
    this.#file = file;
    this.#last = last;
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
    await writeAtomically(this.#file, `${slot}\n`);
    return slot;
  }
}
