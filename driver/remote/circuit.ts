import { orAbort, sleep } from '#core/abort.ts';

/** Leave to make one attempt. Disposed when the attempt is over. */
export interface Passage extends Disposable {
  /** The source answered, if only to say no. */
  succeeded(): void;
  /** The source could not be reached, or not in time. */
  failed(): void;
}

export interface CircuitOptions {
  /** Milliseconds before the first probe, and at most between two. */
  readonly first?: number;
  readonly most?: number;
  /** A number from 0 to 1; for tests. */
  readonly random?: () => number;
}

/**
 * Keeps a source that is away from being stormed. While it is away one attempt at a time goes through, with growing pauses; all others
 * wait, and go on together as soon as one attempt succeeds.
 */
export class Circuit {
  readonly #first: number;
  readonly #most: number;
  readonly #random: () => number;
  #failures = 0;
  #probing = false;
  #changed = Promise.withResolvers<void>();

  constructor({ first = 100, most = 1_000, random = Math.random }: CircuitOptions = {}) {
    this.#first = first;
    this.#most = most;
    this.#random = random;
  }

  /** Whether the last attempt failed. */
  get open(): boolean {
    return this.#failures > 0;
  }

  /** Waits until an attempt may be made. Throws the signal's reason when that aborts first. */
  async enter(signal: AbortSignal): Promise<Passage> {
    while (this.open) {
      if (!this.#probing) {
        this.#probing = true;
        try {
          await orAbort(sleep(this.#pause(), { signal }), signal);
          return this.#passage(true);
        } catch (error) {
          this.#probeOver();
          throw error;
        }
      }
      await orAbort(this.#changed.promise, signal);
    }
    return this.#passage(false);
  }

  /** It is another source now: what was learnt of the old one is void. */
  reset(): void {
    this.#failures = 0;
    this.#wake();
  }

  #passage(probe: boolean): Passage {
    return {
      succeeded: () => {
        if (this.open) this.reset();
      },
      // Attempts that were under way when the first of them failed say nothing new.
      failed: () => {
        if (probe || !this.open) this.#failures++;
      },
      [Symbol.dispose]: () => {
        if (probe) this.#probeOver();
      },
    };
  }

  // Half of the pause is chance, so that the nodes of a cluster do not come back all at once.
  #pause(): number {
    const full = Math.min(this.#most, this.#first * 2 ** Math.min(this.#failures - 1, 16));
    return full / 2 + (full / 2) * this.#random();
  }

  #probeOver(): void {
    this.#probing = false;
    this.#wake();
  }

  #wake(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers<void>();
    resolve();
  }
}
