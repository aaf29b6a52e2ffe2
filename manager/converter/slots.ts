import { type Abortable, orAbort } from '#core/abort.ts';

/** Lets so many work at the same time; the others wait, first come first served. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Waits for a slot; dispose what it gives. Throws the signal's reason if that aborts first. */
  async acquire({ signal }: Abortable = {}): Promise<Disposable> {
    signal?.throwIfAborted();
    if (this.#free > 0) this.#free--;
    else {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push(resolve);
      try {
        await orAbort(promise, signal);
      } catch (error) {
        const place = this.#waiting.indexOf(resolve);
        // Its turn may have come in the same moment: then it goes on to the next.
        if (place < 0) this.#release();
        else this.#waiting.splice(place, 1);
        throw error;
      }
    }
    return { [Symbol.dispose]: () => this.#release() };
  }

  #release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}
