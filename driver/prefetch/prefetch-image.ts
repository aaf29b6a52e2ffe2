import type { Digest } from '#core/digest.ts';
import type { ObjectTable } from '#core/index/object-table.ts';
import type { WantedObject } from '../cache/object.ts';

/** An image, as far as prefetching needs to know it. */
export interface PrefetchImage {
  readonly image: Digest;
  readonly table: ObjectTable;
  object(row: number): WantedObject;
}

/** What was brought for one image because its start-up profile names it. */
export class Prefetched {
  /** Said by the manager to come; undefined until it has said so. */
  planned: number | undefined;
  chunks = 0;
  bytes = 0;
  /** Of these, before decompression. */
  wireBytes = 0;
  /** Chunks that the manager did not have, or not right. */
  lacking = 0;
  /** Milliseconds from the request to the end. */
  milliseconds: number | undefined;
  /** Why there is nothing, or not all. */
  problem: string | undefined;
  /** Whether the image gets what comes as if it had touched it. Otherwise each touch is seen, and the profile learns what nobody needs. */
  readonly pin: boolean;
  readonly #keys = new Set<string>();
  #used = 0;

  constructor(pin: boolean) {
    this.pin = pin;
  }

  /** Milliseconds have passed and nothing more will come. */
  get ended(): boolean {
    return this.milliseconds !== undefined;
  }

  /** Chunks of which a touch was seen. */
  get used(): number {
    return this.#used;
  }

  plan(row: number, chunk: number): void {
    this.#keys.add(`${row}/${chunk}`);
  }

  /** Notes a first touch. Gives whether the chunk was planned. */
  touched(row: number, chunk: number): boolean {
    if (!this.#keys.has(`${row}/${chunk}`)) return false;
    this.#used++;
    return true;
  }
}
