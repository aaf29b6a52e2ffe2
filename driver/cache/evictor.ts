import type { Logger } from '#core/log.ts';

/** Something in a cache. */
export interface CacheItem {
  /** On the disk. */
  readonly bytes: number;
  /** When it was last used, milliseconds since 1970. */
  readonly usedAt: number;
  /** Takes it away if nothing uses it (now, not when it was found). Gives whether it did. Missing: it is in use. */
  evict?(): boolean;
}

/** A folder whose contents may be evicted. */
export interface Shelf {
  items(): AsyncIterable<CacheItem>;
}

/** After an eviction the cache is this full, so that the next object does not start another. */
const TARGET = 0.9;

/** After an eviction that found too little, the next one waits: each of them looks at every file. */
const QUIET_MS = 10_000;

/** Keeps the caches below a number of bytes, and makes room on a full disk. What is in use, or might be, stays. */
export class Evictor {
  readonly #shelves: readonly Shelf[];
  readonly #log: Logger;
  #limit: number;
  #bytes: number | undefined;
  #running: Promise<number> | undefined;
  /** Bytes that were added while a count was under way, which may have seen them or not. */
  #meanwhile = 0;
  #quietUntil = 0;
  evictedObjects = 0;
  evictedBytes = 0;

  /** `limit` in bytes; 0: none. */
  constructor(shelves: readonly Shelf[], limit: number, log: Logger) {
    this.#shelves = shelves;
    this.#limit = limit;
    this.#log = log;
  }

  /** Bytes in the caches, as far as is known; undefined until `count` is done. */
  get bytes(): number | undefined {
    return this.#bytes;
  }

  set limit(bytes: number) {
    this.#limit = bytes;
    this.#quietUntil = 0;
    this.#check();
  }

  /** Counts what is there. To be called once, in the background. */
  async count(): Promise<void> {
    let bytes = 0;
    this.#meanwhile = 0;
    for (const shelf of this.#shelves) for await (const item of shelf.items()) bytes += item.bytes;
    this.#counted(bytes);
    this.#check();
  }

  /** Says that this many bytes were added (or, negative, taken away by somebody else). */
  added(bytes: number): void {
    this.#meanwhile += bytes;
    if (this.#bytes !== undefined) this.#bytes += bytes;
    this.#check();
  }

  /** Evicts at least `bytes` where there is so much to evict. Gives how many it were. */
  async makeRoom(bytes: number): Promise<number> {
    await this.#running?.catch(() => {});
    return await this.#start(bytes);
  }

  #check(): void {
    if (this.#limit === 0 || this.#bytes === undefined || this.#bytes <= this.#limit || this.#running !== undefined)
      return;
    if (performance.now() < this.#quietUntil) return;
    const wanted = this.#bytes - this.#limit * TARGET;
    this.#start(wanted).then(
      (freed) => {
        if (freed < wanted) this.#quietUntil = performance.now() + QUIET_MS;
        this.#check();
      },
      (err: unknown) => this.#log.error({ err }, 'eviction failed'),
    );
  }

  async #start(bytes: number): Promise<number> {
    const running = this.#evict(bytes);
    this.#running = running;
    try {
      return await running;
    } finally {
      if (this.#running === running) this.#running = undefined;
    }
  }

  async #evict(wanted: number): Promise<number> {
    const candidates: CacheItem[] = [];
    let total = 0;
    this.#meanwhile = 0;
    for (const shelf of this.#shelves) {
      for await (const item of shelf.items()) {
        total += item.bytes;
        if (item.evict !== undefined) candidates.push(item);
      }
    }
    candidates.sort((a, b) => a.usedAt - b.usedAt);
    let freed = 0;
    let objects = 0;
    for (const item of candidates) {
      if (freed >= wanted) break;
      if (item.evict?.() !== true) continue;
      freed += item.bytes;
      objects++;
    }
    this.#counted(total - freed);
    this.evictedObjects += objects;
    this.evictedBytes += freed;
    if (objects > 0) this.#log.info({ objects, bytes: freed, left: this.#bytes }, 'evicted');
    return freed;
  }

  // Better too high, which the next eviction puts right, than too low.
  #counted(bytes: number): void {
    this.#bytes = bytes + Math.max(0, this.#meanwhile);
  }
}
