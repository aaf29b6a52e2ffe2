import { orAbort } from './abort.ts';

interface Flight<T> {
  readonly promise: Promise<T>;
  readonly controller: AbortController;
  waiters: number;
}

/**
 * Runs the work for a key once however many ask for it at the same time. The work is cancelled when the last waiter has gone;
 * one waiter's signal never ends another waiter's wait.
 */
export class SingleFlight<K, T> {
  readonly #flights = new Map<K, Flight<T>>();

  /** How many keys are being worked on. */
  get size(): number {
    return this.#flights.size;
  }

  has(key: K): boolean {
    return this.#flights.has(key);
  }

  /** Joins the work under way for `key`, or starts `work`. The signal that `work` gets aborts when nobody waits any longer. */
  async run(
    key: K,
    work: (signal: AbortSignal) => Promise<T>,
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<T> {
    signal?.throwIfAborted();
    let flight = this.#flights.get(key);
    if (flight === undefined || flight.controller.signal.aborted) flight = this.#start(key, work);
    flight.waiters++;
    try {
      return await orAbort(flight.promise, signal);
    } finally {
      // Work that is done needs no abort, which is not cheap: it makes an error with a stack.
      if (--flight.waiters === 0 && this.#flights.get(key) === flight) flight.controller.abort();
    }
  }

  #start(key: K, work: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const controller = new AbortController();
    const promise = Promise.try(work, controller.signal);
    const flight: Flight<T> = { promise, controller, waiters: 0 };
    this.#flights.set(key, flight);
    const done = () => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    promise.then(done, done);
    return flight;
  }
}
