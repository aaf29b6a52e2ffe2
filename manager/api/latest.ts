import { type Abortable, sleep } from '#core/abort.ts';

/** Hands over the newest value to one reader who is slower than the writer; what came in between is left out. */
export class Latest<T> {
  #value: { readonly it: T } | undefined;
  #ended = false;
  #news = Promise.withResolvers<void>();
  readonly #end = Promise.withResolvers<void>();

  put(value: T): void {
    this.#value = { it: value };
    this.#news.resolve();
  }

  end(): void {
    this.#ended = true;
    this.#end.resolve();
    this.#news.resolve();
  }

  /** The values, at most one in `interval` milliseconds, until the end. The signal's reason is thrown when it aborts. */
  async *values(interval: number, { signal }: Abortable = {}): AsyncGenerator<T, void, void> {
    while (true) {
      await this.#news.promise;
      signal?.throwIfAborted();
      const value = this.#value;
      if (value !== undefined) {
        this.#value = undefined;
        yield value.it;
      }
      if (this.#ended) return;
      this.#news = Promise.withResolvers<void>();
      await Promise.race([sleep(interval, { signal }), this.#end.promise]);
      if (this.#value !== undefined || this.#ended) this.#news.resolve();
    }
  }
}
