/** Whose turn comes first: a reader that waits, or work in the background. */
export type Urgency = 'demand' | 'background';

interface Waiter {
  readonly resolve: () => void;
}

/** Bounds how many fetches are under way. Those that a reader waits for go first; among equals, first come first served. */
export class Gate {
  readonly #limit: number;
  readonly #waiting: Record<Urgency, Set<Waiter>> = { demand: new Set(), background: new Set() };
  #inside = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many are inside, and how many wait. */
  get load(): { inside: number; waiting: number } {
    return { inside: this.#inside, waiting: this.#waiting.demand.size + this.#waiting.background.size };
  }

  /** Waits for a place. Dispose what it gives to leave. Throws the signal's reason when that aborts first. */
  async enter(urgency: Urgency, signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#inside < this.#limit) {
      this.#inside++;
    } else {
      await this.#wait(urgency, signal);
    }
    return { [Symbol.dispose]: () => this.#leave() };
  }

  async #wait(urgency: Urgency, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter = { resolve };
    const queue = this.#waiting[urgency];
    queue.add(waiter);
    const onAbort = () => {
      if (queue.delete(waiter)) reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  // A place is handed on without ever being free, so that nobody can overtake.
  #leave(): void {
    for (const queue of [this.#waiting.demand, this.#waiting.background]) {
      const [next] = queue;
      if (next === undefined) continue;
      queue.delete(next);
      next.resolve();
      return;
    }
    this.#inside--;
  }
}
