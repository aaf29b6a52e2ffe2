import { GearError } from '#core/errors.ts';
import { FuseError } from './errno.ts';
import type { Call } from './file-system.ts';
import { type FuseRequest, type Uint64, uint64Key } from './request.ts';

/** A request that is being answered. */
export class PendingCall implements Call {
  readonly number: Uint64;
  readonly pid: number;
  readonly since = performance.now();
  #controller: AbortController | undefined;
  #reason: unknown;

  constructor(request: FuseRequest) {
    this.number = request.number;
    this.pid = request.pid;
  }

  // Made on demand: most requests are answered before anything could be aborted.
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  abort(reason: unknown): void {
    this.#reason ??= reason;
    this.#controller?.abort(this.#reason);
  }
}

/** The requests that wait for an answer. */
export class PendingCalls {
  readonly #calls = new Map<string, PendingCall>();

  get size(): number {
    return this.#calls.size;
  }

  /** Milliseconds that the oldest has waited; 0 where none does. */
  get oldestMilliseconds(): number {
    // A Map keeps the order in which its keys came.
    const [first] = this.#calls.values();
    return first === undefined ? 0 : performance.now() - first.since;
  }

  find(number: Uint64): PendingCall | undefined {
    return this.#calls.get(uint64Key(number));
  }

  /** Remembers the call while `work` is under way. */
  async track<T>(call: PendingCall, work: Promise<T>): Promise<T> {
    const key = uint64Key(call.number);
    this.#calls.set(key, call);
    try {
      return await work;
    } finally {
      this.#calls.delete(key);
    }
  }

  /** Whoever asked is being killed. */
  interrupt(call: PendingCall): void {
    call.abort(new FuseError('EINTR'));
  }

  /** The mount is gone: nobody waits any longer. */
  abortAll(): void {
    for (const call of this.#calls.values())
      call.abort(new GearError('cancelled', 'the object filesystem was unmounted'));
  }
}
