/** Counts who holds what, so that nothing is removed between being made and being used. */
export class Pins<K> {
  readonly #counts = new Map<K, number>();

  has(key: K): boolean {
    return this.#counts.has(key);
  }

  /** Disposing what it gives more than once does no harm. */
  add(key: K): Disposable {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        const left = (this.#counts.get(key) ?? 1) - 1;
        if (left === 0) this.#counts.delete(key);
        else this.#counts.set(key, left);
      },
    };
  }
}
