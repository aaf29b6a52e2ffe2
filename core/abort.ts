import { setTimeout as delay } from 'node:timers/promises';
import { GearError } from './errors.ts';

/** Every wait takes one of these. */
export interface Abortable {
  readonly signal?: AbortSignal | undefined;
}

/** Sleeps `milliseconds`, or throws the signal's reason when it aborts first. Keeps the process alive meanwhile: whoever no longer waits has to abort it. */
export async function sleep(milliseconds: number, { signal }: Abortable = {}): Promise<void> {
  try {
    await delay(milliseconds, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** A signal that aborts with deadline-exceeded after `milliseconds`, or when `signal` does. `what` names what took too long. */
export function deadline(milliseconds: number, what: string, signal?: AbortSignal): AbortSignal & Disposable {
  const controller = new AbortController();
  const timer = setTimeout(() => {
    controller.abort(new GearError('deadline-exceeded', `${what}: no answer within ${milliseconds} ms`));
  }, milliseconds);
  timer.unref();
  const combined = signal === undefined ? controller.signal : AbortSignal.any([signal, controller.signal]);
  return Object.assign(combined, { [Symbol.dispose]: () => clearTimeout(timer) });
}

/** Waits for `promise`, or throws the signal's reason when it aborts first; a late failure of `promise` is then ignored. */
export async function orAbort<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await promise;
  promise.catch(() => {});
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Waits until `check` gives something other than undefined or false, looking every `interval` ms. Throws at the deadline, naming `what`. */
export async function until<T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
  { timeout = 30_000, interval = 50, signal }: { timeout?: number; interval?: number } & Abortable = {},
): Promise<T> {
  const end = performance.now() + timeout;
  for (;;) {
    const value = await check();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > end) throw new GearError('deadline-exceeded', `${what}: not within ${timeout} ms`);
    await sleep(interval, { signal });
  }
}
