import { sleep } from '#core/abort.ts';
import type { Digest } from '#core/digest.ts';
import { isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { ObjectCache } from '../cache/object-cache.ts';
import type { ImageEntry } from './image-entry.ts';

/** Objects under way at once: few, so that what readers wait for is not held up. */
const AT_ONCE = 4;
/** Milliseconds between two looks whether something else goes first. */
const LOOK_AGAIN = 200;

/** Brings whole images onto the node in the background, one after the other; whatever a reader waits for goes first. */
export class Filler {
  readonly #cache: ObjectCache;
  readonly #find: (image: string) => ImageEntry | undefined;
  readonly #log: Logger;
  readonly #busy: () => boolean;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<Digest>();
  #current: Digest | undefined;

  /** `busy`: whether something else goes first now. */
  constructor(
    cache: ObjectCache,
    find: (image: string) => ImageEntry | undefined,
    log: Logger,
    busy: () => boolean = () => false,
  ) {
    this.#busy = busy;
    this.#cache = cache;
    this.#find = find;
    this.#log = log;
  }

  /** The image that is being filled; undefined where none is. */
  get current(): Digest | undefined {
    return this.#current;
  }

  /** Asks for an image. Safe to repeat: what is here is not fetched again. */
  request(image: Digest): void {
    if (image === this.#current) return;
    this.#waiting.add(image);
    if (this.#current === undefined) void this.#run();
  }

  stop(): void {
    this.#stop.abort();
  }

  async #run(): Promise<void> {
    for (const image of this.#waiting) {
      this.#waiting.delete(image);
      this.#current = image;
      try {
        await this.#fill(image);
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        // Whoever wants it asks again.
        this.#log.warn({ image }, `image not filled: ${messageOf(error)}`);
      } finally {
        this.#current = undefined;
      }
    }
  }

  async #fill(image: Digest): Promise<void> {
    const { signal } = this.#stop;
    const entry = this.#find(image);
    if (entry === undefined) return;
    const began = performance.now();
    let next = 0;
    let fetched = 0;
    const work = async () => {
      // The image may be removed meanwhile.
      while (next < entry.table.count && this.#find(image) === entry) {
        const object = entry.object(next++);
        if (this.#cache.isPinned(image, object)) continue;
        while (this.#busy()) await sleep(LOOK_AGAIN, { signal });
        try {
          fetched += await this.#cache.whole(image, object, { signal, urgency: 'background' });
        } catch (error) {
          // One that the manager does not have, or not whole, must not keep the others away.
          if (!isGearError(error, 'not-found', 'corrupt')) throw error;
          this.#log.warn({ image, object: object.digest }, `not filled: ${messageOf(error)}`);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    if (fetched > 0)
      this.#log.info({ image, bytes: fetched, milliseconds: Math.round(performance.now() - began) }, 'filled');
  }
}
