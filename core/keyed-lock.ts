import { orAbort } from './abort.ts';

/** Locks by key, first come first served; a key that nobody holds or waits for takes no memory. */
export class KeyedLock<K> {
  readonly #tails = new Map<K, Promise<void>>();

  /** Waits for the key's turn. Dispose what it gives to let the next one in. Throws the signal's reason if that aborts first. */
  async acquire(key: K, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<Disposable> {
    const before = this.#tails.get(key);
    const { promise, resolve } = Promise.withResolvers<void>();
    const tail = before === undefined ? promise : before.then(() => promise);
    this.#tails.set(key, tail);
    const release = () => {
      resolve();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    };
    if (before !== undefined) {
      try {
        await orAbort(before, signal);
      } catch (error) {
        // The place in the queue stays until its turn comes, or those behind would overtake those in front.
        void before.then(release);
        throw error;
      }
    }
    return { [Symbol.dispose]: release };
  }

  /** Runs `work` while holding the key. */
  async with<T>(key: K, work: () => Promise<T>, options: { signal?: AbortSignal | undefined } = {}): Promise<T> {
    using _held = await this.acquire(key, options);
    return await work();
  }
}
