import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Abortable } from '#core/abort.ts';

/** How long (ms) a loop of synchronous calls may keep the process from its other work. */
const TURN = 8;

/**
 * Lets the process breathe: file system calls on metadata are made synchronously, because a trip through the thread pool costs ten times the
 * call, and a tree has a hundred thousand of them.
 */
export class Pacer {
  readonly #signal: AbortSignal | undefined;
  #since = performance.now();

  constructor({ signal }: Abortable = {}) {
    this.#signal = signal;
  }

  /** Whether it is time to wait for `rest`. Throws the signal's reason once it has aborted. */
  get due(): boolean {
    this.#signal?.throwIfAborted();
    return performance.now() - this.#since > TURN;
  }

  async rest(): Promise<void> {
    await nextTurn();
    this.#signal?.throwIfAborted();
    this.#since = performance.now();
  }
}
