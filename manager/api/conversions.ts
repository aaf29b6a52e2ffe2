import type { Abortable } from '#core/abort.ts';
import type { Logger } from '#core/log.ts';
import { SingleFlight } from '#core/single-flight.ts';
import type { Store } from '../catalog/store.ts';
import { openConversionTarget } from '../converter/local-target.ts';
import type { ConversionRequest, ConversionResult, ConvertProgress } from '../converter/request.ts';
import type { ConversionTarget } from '../converter/target.ts';
import { formatReference, parseReference } from '../registry/reference.ts';

/** Does one conversion; see converter/convert.ts. */
export type Convert = (
  request: ConversionRequest,
  options: {
    readonly target: ConversionTarget;
    readonly signal: AbortSignal;
    readonly onProgress: (progress: ConvertProgress) => void;
  },
) => Promise<ConversionResult>;

/** A conversion under way. */
export interface RunningConversion {
  readonly source: string;
  /** Milliseconds since 1970. */
  readonly since: number;
  readonly progress: ConvertProgress | undefined;
}

type Listener = (progress: ConvertProgress) => void;

/** Those who wait for one conversion, and what they heard last. */
interface Audience {
  readonly listeners: Set<Listener>;
  last: ConvertProgress | undefined;
}

/** The conversions of a manager: all who ask for the same one at the same time share it, and hear of its progress. */
export class Conversions {
  readonly #store: Store;
  readonly #convert: Convert;
  readonly #log: Logger;
  readonly #flights = new SingleFlight<string, ConversionResult>();
  readonly #working = new Set<Promise<unknown>>();
  readonly #running = new Set<{ -readonly [K in keyof RunningConversion]: RunningConversion[K] }>();
  readonly #audiences = new Map<string, Audience>();

  constructor(store: Store, convert: Convert, log: Logger) {
    this.#store = store;
    this.#convert = convert;
    this.#log = log;
  }

  /** How many are under way. */
  get size(): number {
    return this.#flights.size;
  }

  /** Those under way, the one that began first first. */
  list(): RunningConversion[] {
    return [...this.#running].map((running) => ({ ...running }));
  }

  /** Joins the conversion of this image that is under way, or starts one. It is cancelled when nobody waits for it any longer. */
  async run(
    request: ConversionRequest,
    { signal, onProgress }: { readonly onProgress: Listener } & Abortable,
  ): Promise<ConversionResult> {
    const key = keyOf(request);
    const audience = this.#audiences.get(key) ?? { listeners: new Set(), last: undefined };
    this.#audiences.set(key, audience);
    audience.listeners.add(onProgress);
    // Who joins late hears at once how far it is.
    if (audience.last !== undefined) onProgress(audience.last);
    try {
      return await this.#flights.run(key, (shared) => this.#track(this.#work(key, request, shared)), { signal });
    } finally {
      audience.listeners.delete(onProgress);
      if (audience.listeners.size === 0) this.#audiences.delete(key);
    }
  }

  /** Resolves when no conversion is under way any longer, not even one that was given up. */
  async settled(): Promise<void> {
    while (this.#working.size > 0) await Promise.allSettled(this.#working);
  }

  async #track<T>(work: Promise<T>): Promise<T> {
    this.#working.add(work);
    try {
      return await work;
    } finally {
      this.#working.delete(work);
    }
  }

  async #work(key: string, request: ConversionRequest, signal: AbortSignal): Promise<ConversionResult> {
    const began = performance.now();
    using disposables = new DisposableStack();
    const running = { source: request.source, since: Date.now(), progress: undefined as ConvertProgress | undefined };
    this.#running.add(running);
    disposables.defer(() => this.#running.delete(running));
    using target = openConversionTarget(this.#store);
    const onProgress = (progress: ConvertProgress) => {
      running.progress = progress;
      const audience = this.#audiences.get(key);
      // A conversion that was given up may still be ending when another one of the same image has begun.
      if (audience === undefined || signal.aborted) return;
      audience.last = progress;
      for (const listener of audience.listeners) listener(progress);
    };
    const result = await this.#convert(request, { target, signal, onProgress });
    const { sourceDigest, gearDigest, indexDigest } = result.image;
    const facts = { source: request.source, sourceDigest, gearDigest, indexDigest, unchanged: result.unchanged };
    this.#log.info({ ...facts, ms: Math.round(performance.now() - began) }, 'conversion done');
    return result;
  }
}

/** The same for requests that ask for the same in other words. Throws invalid-argument for what is no reference. */
function keyOf({ source, destination, platform, force, noPush }: ConversionRequest): string {
  const target = destination === undefined || destination === '' ? '' : formatReference(parseReference(destination));
  const wanted = platform === undefined ? [] : [platform.os, platform.architecture, platform.variant];
  return JSON.stringify([formatReference(parseReference(source)), target, wanted, force === true, noPush === true]);
}
