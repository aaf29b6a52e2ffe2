import type { Digest } from '#core/digest.ts';

/** One chunk of an object, as a profile knows it. */
export interface ProfileItem {
  readonly digest: Digest;
  readonly chunk: number;
  /** Of the chunk. */
  readonly bytes: number;
  /** In how many runs it was touched. */
  seen: number;
  /** Runs that could not tell, because the node had been given it before. */
  skipped: number;
  /** Milliseconds from the first mount to the touch, on average. */
  milliseconds: number;
}

export interface TouchedChunk {
  readonly digest: Digest;
  readonly chunk: number;
  readonly bytes: number;
  readonly milliseconds: number;
}

/** A part of a run; see ReportTouchesRequest in monitor.proto. */
export interface RunPart {
  readonly touches: readonly TouchedChunk[];
  readonly first: boolean;
  readonly complete: boolean;
}

export interface ProfileFacts {
  readonly image: Digest;
  /** Bytes. */
  readonly chunkSize: number;
  readonly runs: number;
  readonly inheritedFrom: Digest | undefined;
  /** Milliseconds since 1970. */
  readonly updatedAt: number;
}

/** More than this of an image is not remembered: 2 GiB in chunks of 128 KiB. */
export const MAX_ITEMS = 16_384;
/** No more than this is given to a node ahead of its touches. */
const MAX_CHOSEN_BYTES = 512 * 1024 * 1024;
/** Beyond so many runs older ones count half, so that a profile follows what an image is used for. */
const MANY_RUNS = 64;
/** What less than one run in so many touched is left out. */
const RARE = 3;

export function itemKey({ digest, chunk }: { readonly digest: Digest; readonly chunk: number }): string {
  return `${digest}/${chunk}`;
}

/**
 * What containers of an image touch first, learned from runs. Counted, not collected: a report changes numbers and is forgotten, so a profile has the same size
 * after a thousand runs as after one. A chunk is chosen when more than a third of the runs that could have told have touched it: the first run decides alone, and
 * from the third on what only one odd run touched is out again. The order is that of the average time of the touch.
 */
export class Profile {
  readonly image: Digest;
  readonly chunkSize: number;
  readonly inheritedFrom: Digest | undefined;
  readonly #items = new Map<string, ProfileItem>();
  #runs: number;
  #updatedAt: number;

  constructor({ image, chunkSize, runs, inheritedFrom, updatedAt }: ProfileFacts, items: Iterable<ProfileItem> = []) {
    this.image = image;
    this.chunkSize = chunkSize;
    this.inheritedFrom = inheritedFrom;
    this.#runs = runs;
    this.#updatedAt = updatedAt;
    for (const item of items) if (this.#items.size < MAX_ITEMS) this.#items.set(itemKey(item), { ...item });
  }

  get runs(): number {
    return Math.round(this.#runs);
  }

  get updatedAt(): number {
    return this.#updatedAt;
  }

  get size(): number {
    return this.#items.size;
  }

  find(key: string): ProfileItem | undefined {
    return this.#items.get(key);
  }

  /** All items in the order in which they are needed. */
  items(): ProfileItem[] {
    // Sorting is stable: what came in the same millisecond stays in the order in which it was first reported.
    return [...this.#items.values()].sort((a, b) => a.milliseconds - b.milliseconds);
  }

  /** How many runs could have touched the item. */
  chances(item: ProfileItem): number {
    return Math.max(1, this.#runs - item.skipped, item.seen);
  }

  isChosen(item: ProfileItem): boolean {
    return item.seen * RARE > this.chances(item);
  }

  /** What a node is given, in order. */
  chosen(): ProfileItem[] {
    const chosen: ProfileItem[] = [];
    let bytes = 0;
    for (const item of this.items()) {
      if (!this.isChosen(item)) continue;
      bytes += item.bytes;
      if (bytes > MAX_CHOSEN_BYTES) break;
      chosen.push(item);
    }
    return chosen;
  }

  /** Takes in a part of a run. */
  merge({ touches, first, complete }: RunPart, now = Date.now()): void {
    this.#updatedAt = now;
    if (first) this.#beginRun(complete);
    for (const { digest, chunk, bytes, milliseconds } of touches) {
      const key = itemKey({ digest, chunk });
      const known = this.#items.get(key);
      if (known !== undefined) {
        known.seen++;
        known.milliseconds += (milliseconds - known.milliseconds) / known.seen;
        continue;
      }
      if (this.#items.size >= MAX_ITEMS && !this.#makeRoom()) return;
      this.#items.set(key, { digest, chunk, bytes, seen: 1, skipped: 0, milliseconds });
    }
  }

  #beginRun(complete: boolean): void {
    if (!complete) {
      for (const item of this.#items.values()) if (this.isChosen(item)) item.skipped++;
    }
    this.#runs++;
    if (this.#runs < MANY_RUNS) return;
    this.#runs /= 2;
    for (const [key, item] of this.#items) {
      item.seen /= 2;
      item.skipped /= 2;
      // Once in many runs: nobody will miss it.
      if (item.seen < 1 && !this.isChosen(item)) this.#items.delete(key);
    }
  }

  /** Forgets what is not chosen. Gives whether that helped. */
  #makeRoom(): boolean {
    for (const [key, item] of this.#items) if (!this.isChosen(item)) this.#items.delete(key);
    return this.#items.size < MAX_ITEMS;
  }
}
