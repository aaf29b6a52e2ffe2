import { orAbort } from '#core/abort.ts';
import type { Digest } from '#core/digest.ts';
import { GearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { TagState, WatchedTag } from '../catalog/watched-tags.ts';
import type { ConversionRequest, ConversionResult, ConvertProgress } from '../converter/request.ts';
import { isPermanent, type RetryPolicy, retryDelay } from './queue-retry.ts';

/** A tag, and how far its conversion is while there is one. */
export interface QueuedTag extends WatchedTag {
  readonly progress: ConvertProgress | undefined;
}

/** Where the queue keeps what must survive a restart. */
export interface TagTable {
  put(tag: WatchedTag): void;
  remove(source: string): void;
  all(): WatchedTag[];
}

export interface QueueParts {
  readonly tags: TagTable;
  readonly convert: (
    request: ConversionRequest,
    options: { readonly signal: AbortSignal; readonly onProgress: (progress: ConvertProgress) => void },
  ) => Promise<ConversionResult>;
  /** Why what the tag names is left alone: it is a Gear image already, or no image at all. Undefined: it is to be converted. */
  readonly leftAlone: (tag: WatchedTag, signal: AbortSignal) => Promise<string | undefined>;
  /** Conversions at the same time. */
  readonly workers: number;
  /** Registries that images come from (default 1): where there are several, none of them gets the last worker too, however slow it is. */
  readonly registries?: number | undefined;
  readonly retry?: RetryPolicy | undefined;
  readonly log: Logger;
}

/** What a tag that is wanted at once has become. */
export type Settled = 'ready' | 'ignored';

interface Waiter {
  readonly resolve: (state: Settled) => void;
  readonly reject: (error: unknown) => void;
}

/** Failed pulls are remembered so that they are not tried again at every pull; no more than this many. */
const MAX_FAILED_PULLS = 500;

/**
 * The tags that are to be converted: a state for each, so many conversions at the same time, and another attempt, later and later, for what fails. Every
 * change is in the table before it is acted on, so a restart goes on where this process ended.
 */
export class ConversionQueue implements AsyncDisposable {
  readonly #parts: QueueParts;
  readonly #tags = new Map<string, WatchedTag>();
  readonly #progress = new Map<string, ConvertProgress>();
  readonly #waiters = new Map<string, Set<Waiter>>();
  /** In the order in which they are to be converted; what somebody waits for stands in `#urgent`. */
  readonly #waiting = new Set<string>();
  readonly #urgent = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: QueueParts) {
    this.#parts = parts;
    for (const tag of parts.tags.all()) {
      // A conversion that a restart has interrupted begins again; what it had stored by then is found.
      const state = tag.state === 'converting' ? 'waiting' : tag.state;
      this.#tags.set(tag.source, { ...tag, state });
      if (state === 'waiting') this.#waiting.add(tag.source);
    }
  }

  /** Begins to work. */
  start(): void {
    this.#pump();
  }

  /** Every tag, in no particular order. */
  list(): QueuedTag[] {
    return [...this.#tags.values()].map((tag) => ({ ...tag, progress: this.#progress.get(tag.source) }));
  }

  get(source: string): WatchedTag | undefined {
    return this.#tags.get(source);
  }

  /** How many tags are in a state. */
  count(state: TagState): number {
    let count = 0;
    for (const tag of this.#tags.values()) if (tag.state === state) count++;
    return count;
  }

  /** Says what a watched tag names now. What is new or has moved is converted; of what is known nothing happens. */
  offer(source: string, digest: Digest): void {
    const tag = this.#tags.get(source);
    if (tag !== undefined && tag.origin === 'watch' && tag.digest === digest) {
      if (tag.goneAt !== undefined) this.#put({ ...tag, goneAt: undefined });
      return;
    }
    this.#enqueue(source, digest, 'watch');
  }

  /** Says that the registry does not have the tag any longer. */
  gone(source: string, now = Date.now()): void {
    const tag = this.#tags.get(source);
    if (tag !== undefined && tag.goneAt === undefined) this.#put({ ...tag, goneAt: now });
  }

  /** Tries again at once what failed and would be tried again later, of those that `fits` takes: what it failed for may be over. */
  retry(fits: (source: string) => boolean): void {
    for (const tag of this.#tags.values()) {
      if (tag.state === 'failed' && tag.retryAt !== undefined && fits(tag.source)) this.#put({ ...tag, retryAt: 0 });
    }
    this.#pump();
  }

  /** Forgets a tag. Gives whether it could: not while it is being converted. */
  remove(source: string): boolean {
    if (this.#running.has(source)) return false;
    this.#forget(source);
    return true;
  }

  /**
   * Has a tag converted before the others, also one that was ready, and waits for it; an abort ends only the waiting. Throws why it failed, which may have been
   * some time ago: one that failed is not tried again before its time.
   */
  async want(source: string, digest: Digest, signal: AbortSignal): Promise<Settled> {
    this.#stop.signal.throwIfAborted();
    const tag = this.#tags.get(source);
    const isSame = tag?.digest === digest;
    if (isSame && tag.state === 'ignored') return tag.state;
    if (isSame && tag.state === 'failed' && (tag.retryAt === undefined || tag.retryAt > Date.now())) {
      throw new GearError('failed-precondition', tag.error);
    }
    const waiter = Promise.withResolvers<Settled>();
    const waiters = this.#waiters.get(source) ?? new Set();
    this.#waiters.set(source, waiters.add(waiter));
    if (!this.#running.has(source)) this.#urgent.add(source);
    if (isSame && (tag.state === 'waiting' || tag.state === 'converting')) this.#pump();
    else this.#enqueue(source, digest, tag?.origin ?? 'pull');
    try {
      return await orAbort(waiter.promise, signal);
    } finally {
      waiters.delete(waiter);
      if (waiters.size === 0 && this.#waiters.get(source) === waiters) this.#waiters.delete(source);
    }
  }

  #enqueue(source: string, digest: Digest, origin: WatchedTag['origin']): void {
    const known = this.#tags.get(source);
    const isRunning = this.#running.has(source);
    this.#put({
      source,
      origin,
      state: isRunning ? 'converting' : 'waiting',
      digest,
      imageDigest: known?.imageDigest,
      attempts: known?.digest === digest ? known.attempts : 0,
      error: '',
      retryAt: undefined,
      changedAt: Date.now(),
      goneAt: undefined,
    });
    // One that is being converted is looked at again when that is over.
    if (isRunning) return;
    this.#waiting.add(source);
    this.#pump();
  }

  #put(tag: WatchedTag): void {
    this.#parts.tags.put(tag);
    this.#tags.set(tag.source, tag);
  }

  #forget(source: string): void {
    this.#parts.tags.remove(source);
    this.#tags.delete(source);
    this.#waiting.delete(source);
    this.#urgent.delete(source);
  }

  #pump(): void {
    if (this.#stop.signal.aborted) return;
    this.#wakeFailed();
    while (this.#running.size < this.#parts.workers) {
      const source = this.#nextOf(this.#urgent) ?? this.#nextOf(this.#waiting);
      if (source === undefined) return;
      this.#urgent.delete(source);
      this.#waiting.delete(source);
      const tag = this.#tags.get(source);
      if (tag === undefined) continue;
      const work = this.#work(tag).finally(() => {
        this.#running.delete(source);
        this.#progress.delete(source);
        this.#pump();
      });
      this.#running.set(source, work);
      work.catch((error: unknown) => this.#parts.log.error({ err: error, source }, 'the queue cannot be written'));
    }
  }

  /** The first whose registry may have another worker. */
  #nextOf(sources: ReadonlySet<string>): string | undefined {
    const { workers, registries = 1 } = this.#parts;
    const most = registries > 1 ? Math.max(1, workers - 1) : workers;
    const busy = new Map<string, number>();
    for (const source of this.#running.keys()) busy.set(hostOf(source), (busy.get(hostOf(source)) ?? 0) + 1);
    for (const source of sources) if ((busy.get(hostOf(source)) ?? 0) < most) return source;
    return undefined;
  }

  /** Moves those whose time has come to those that wait, and sets the clock for the next. */
  #wakeFailed(): void {
    clearTimeout(this.#timer);
    let next = Number.POSITIVE_INFINITY;
    const now = Date.now();
    for (const tag of this.#tags.values()) {
      if (tag.state !== 'failed' || tag.retryAt === undefined || tag.goneAt !== undefined) continue;
      if (tag.retryAt > now) next = Math.min(next, tag.retryAt);
      else {
        this.#put({ ...tag, state: 'waiting', changedAt: now });
        this.#waiting.add(tag.source);
      }
    }
    if (next < Number.POSITIVE_INFINITY) {
      this.#timer = setTimeout(() => this.#pump(), Math.min(next - now, 2 ** 31 - 1));
      this.#timer.unref();
    }
  }

  async #work(begun: WatchedTag): Promise<void> {
    const { source, digest, origin } = begun;
    const { signal } = this.#stop;
    const { log } = this.#parts;
    this.#put({ ...begun, state: 'converting', changedAt: Date.now() });
    try {
      const outcome = await this.#attempt(begun, signal);
      const settled = { attempts: 0, error: '', retryAt: undefined, changedAt: Date.now(), ...outcome };
      const now = this.#tags.get(source) ?? begun;
      if (now.digest !== digest || now.origin !== origin) {
        // It moved meanwhile.
        this.#put({ ...now, ...settled, state: 'waiting' });
        (this.#waiters.has(source) ? this.#urgent : this.#waiting).add(source);
        return;
      }
      this.#put({ ...now, ...settled });
      this.#tell(source, (waiter) => waiter.resolve(outcome.state));
      // An image that was only pulled is in the store now, like any that somebody converted by hand.
      if (origin === 'pull') this.#forget(source);
    } catch (error) {
      if (signal.aborted) {
        this.#tell(source, (waiter) => waiter.reject(error));
        return;
      }
      const now = this.#tags.get(source) ?? begun;
      const attempts = now.attempts + 1;
      const delay = isPermanent(error) ? undefined : retryDelay(attempts, this.#parts.retry);
      const retryAt = delay === undefined ? undefined : Date.now() + delay;
      log.warn({ err: error, source, attempts, retryAt }, 'an image cannot be converted');
      const hasMoved = now.digest !== digest;
      const failed = { attempts, error: messageOf(error), retryAt, changedAt: Date.now() };
      this.#put({ ...now, ...failed, state: hasMoved ? 'waiting' : 'failed' });
      if (hasMoved) this.#waiting.add(source);
      this.#tell(source, (waiter) => waiter.reject(error));
      this.#dropOldPulls();
    }
  }

  async #attempt(
    { source, origin, ...rest }: WatchedTag,
    signal: AbortSignal,
  ): Promise<{ readonly state: Settled; readonly imageDigest: Digest | undefined; readonly error?: string }> {
    const reason = await this.#parts.leftAlone({ source, origin, ...rest }, signal);
    if (reason !== undefined) return { state: 'ignored', imageDigest: undefined, error: reason };
    const onProgress = (progress: ConvertProgress) => this.#progress.set(source, progress);
    const request = { source, noPush: origin === 'pull' };
    const { image } = await this.#parts.convert(request, { signal, onProgress });
    return { state: 'ready', imageDigest: image.sourceDigest };
  }

  #tell(source: string, say: (waiter: Waiter) => void): void {
    for (const waiter of this.#waiters.get(source) ?? []) say(waiter);
  }

  #dropOldPulls(): void {
    const failed = [...this.#tags.values()].filter(({ origin, state }) => origin === 'pull' && state === 'failed');
    if (failed.length <= MAX_FAILED_PULLS) return;
    const [oldest] = failed.sort((a, b) => a.changedAt - b.changedAt);
    if (oldest !== undefined) this.#forget(oldest.source);
  }

  /** Ends what is under way; it begins again at the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    this.#stop.abort(new GearError('unavailable', 'the manager is stopping'));
    for (const waiters of this.#waiters.values()) {
      for (const waiter of waiters) waiter.reject(this.#stop.signal.reason);
    }
    await Promise.allSettled(this.#running.values());
  }
}

/** The registry of "docker://HOST/...". */
function hostOf(source: string): string {
  return source.split('/', 3)[2] ?? '';
}
