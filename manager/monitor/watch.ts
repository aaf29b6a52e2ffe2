import { sleep } from '#core/abort.ts';
import { GearError, isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { RegistryClient } from '../registry/client.ts';
import { formatReference } from '../registry/reference.ts';
import type { ConversionQueue } from './queue.ts';
import { covers, coversSource, formatWatch, referenceOf, type WatchSpec } from './watch-spec.ts';

/** Repositories that are looked at together. */
const CONCURRENCY = 4;
const LONGEST_PAUSE = 15 * 60_000;
/** After so many repositories that fail one after the other the whole pass is given up. */
const MAX_FAILURES = 5;
/** Repositories that notifications named and that nobody has looked at yet; beyond that everything is looked at. */
const MAX_HINTS = 10_000;
/** The distribution registry tells of a push just before its tag can be seen: what has not changed is looked at again after so many milliseconds. */
const AGAIN = [100, 400, 2500];

export interface WatchParts {
  readonly spec: WatchSpec;
  readonly client: RegistryClient;
  readonly queue: Pick<ConversionQueue, 'offer' | 'retry' | 'gone' | 'get' | 'list'>;
  /** Milliseconds between two looks at everything. */
  readonly interval: number;
  /** Called after each look at everything that succeeded. */
  readonly onPass?: ((signal: AbortSignal) => Promise<void>) | undefined;
  readonly log: Logger;
}

/** What a look at everything found. */
interface Looked {
  readonly repositories: number;
  readonly tags: number;
  /** Repositories that could not be read, and why the last of them could not. */
  readonly unsure: number;
  readonly reason: unknown;
}

/**
 * Watches a registry: looks at all its repositories and tags now and then, and at once at those that a notification names. What it finds it offers to
 * the queue. Nothing that a notification says is believed: it only says where to look. Disposing it ends it.
 */
export class RegistryWatch implements AsyncDisposable {
  readonly #parts: WatchParts;
  readonly #log: Logger;
  /** Tags by repository; no tags: all of them. */
  readonly #hints = new Map<string, Set<string>>();
  readonly #stop = new AbortController();
  /** How often tags that a notification named were looked at in vain, as "repository:tag". */
  readonly #again = new Map<string, number>();
  #news = Promise.withResolvers<void>();
  #failures = 0;
  #passes = 0;
  #working: Promise<void> | undefined;

  constructor(parts: WatchParts) {
    this.#parts = parts;
    this.#log = parts.log.child({ watch: formatWatch(parts.spec) });
  }

  get spec(): WatchSpec {
    return this.#parts.spec;
  }

  /** How many looks at everything succeeded. */
  get passes(): number {
    return this.#passes;
  }

  /** Whether the last look at everything succeeded. */
  get healthy(): boolean {
    return this.#passes > 0 && this.#failures === 0;
  }

  start(): void {
    this.#working ??= this.#run();
  }

  /** Says that something has changed in a repository: this tag, or nobody knows which. */
  hint(repository: string, tag?: string): void {
    if (tag !== undefined) this.#again.delete(`${repository}:${tag}`);
    this.#addHint(repository, tag);
  }

  #addHint(repository: string, tag: string | undefined): void {
    if (!covers(this.#parts.spec, repository) || this.#hints.size >= MAX_HINTS) return;
    const known = this.#hints.get(repository);
    if (tag === undefined || known?.size === 0 || (known?.size ?? 0) >= MAX_HINTS)
      this.#hints.set(repository, new Set());
    else this.#hints.set(repository, (known ?? new Set()).add(tag));
    this.#news.resolve();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let nextPass = 0;
    while (!signal.aborted) {
      try {
        if (performance.now() >= nextPass) {
          this.#hints.clear();
          const isWell = await this.#passOnce(signal);
          nextPass = performance.now() + this.#pause(isWell);
        }
        if (!(await this.#followHints(signal))) nextPass = Math.min(nextPass, performance.now() + this.#pause(false));
        this.#news = Promise.withResolvers<void>();
        if (this.#hints.size > 0) continue;
        const waiting = new AbortController();
        const time = sleep(Math.max(0, nextPass - performance.now()), {
          signal: AbortSignal.any([signal, waiting.signal]),
        });
        await Promise.race([time, this.#news.promise]);
        waiting.abort();
        time.catch(() => {});
      } catch (error) {
        if (signal.aborted) return;
        this.#log.error({ err: error }, 'watching failed; it goes on');
        nextPass = performance.now() + this.#pause(false);
      }
    }
  }

  #pause(isWell: boolean): number {
    const { interval } = this.#parts;
    return isWell
      ? interval
      : Math.max(interval, Math.min(LONGEST_PAUSE, interval * 2 ** Math.min(this.#failures, 20)));
  }

  /** Looks at everything. Gives whether all of it answered. */
  async #passOnce(signal: AbortSignal): Promise<boolean> {
    const began = performance.now();
    try {
      const { repositories, tags, unsure, reason } = await this.#lookAtAll(signal);
      if (unsure > 0) {
        const count = `${unsure} of ${repositories} repositories could not be read`;
        throw new GearError('unavailable', `${count}: ${messageOf(reason)}`, { cause: reason });
      }
      if (this.#failures > 0 || this.#passes === 0) {
        this.#log.info({ repositories, tags, ms: Math.round(performance.now() - began) }, 'the registry is watched');
      }
      // Conversions have failed for the same reason, most likely.
      if (this.#failures > 0) this.#parts.queue.retry((source) => coversSource(this.#parts.spec, source));
      this.#failures = 0;
      this.#passes++;
      await this.#parts.onPass?.(signal);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      this.#failures++;
      const facts = { err: error, failures: this.#failures, again: this.#pause(false) };
      if (this.#failures === 1) this.#log.warn(facts, 'the registry cannot be watched; it is tried again');
      else this.#log.debug(facts, 'the registry still cannot be watched');
      return false;
    }
  }

  async #lookAtAll(signal: AbortSignal): Promise<Looked> {
    const { spec, queue } = this.#parts;
    const seen = new Set<string>();
    const unsure = new Set<string>();
    let repositories = 0;
    let inARow = 0;
    let reason: unknown;
    const names = this.#repositories(signal);
    let givenUp = false;
    const worker = async () => {
      while (!givenUp) {
        const { value: repository, done } = await names.next();
        if (done === true) return;
        repositories++;
        try {
          for (const source of await this.#lookAt(repository, signal)) seen.add(source);
          inARow = 0;
        } catch (error) {
          signal.throwIfAborted();
          unsure.add(repository);
          reason = error;
          givenUp = ++inARow >= MAX_FAILURES;
          if (givenUp) throw error;
          this.#log.debug({ err: error, repository }, 'a repository could not be read');
        }
      }
    };
    const ended = await Promise.allSettled(Array.from({ length: CONCURRENCY }, worker));
    for (const end of ended) if (end.status === 'rejected') throw end.reason;
    for (const { source, origin } of queue.list()) {
      if (origin !== 'watch' || seen.has(source) || !coversSource(spec, source)) continue;
      if (![...unsure].some((repository) => source.startsWith(`docker://${spec.host}/${repository}:`)))
        queue.gone(source);
    }
    return { repositories, tags: seen.size, unsure: unsure.size, reason };
  }

  /** The names of the repositories that are watched, each once. */
  async *#repositories(signal: AbortSignal): AsyncGenerator<string, void, void> {
    const { client, spec } = this.#parts;
    const given = new Set<string>();
    try {
      for await (const name of client.repositories(spec.host, { signal })) {
        if (!covers(spec, name) || given.has(name)) continue;
        given.add(name);
        yield name;
      }
    } catch (error) {
      // Many registries show their catalogue to nobody; then the prefix is the name of a repository.
      const hidden = isGearError(error, 'unsupported', 'not-found', 'permission-denied', 'unauthenticated');
      if (!hidden || spec.prefix === '' || given.size > 0) throw error;
      yield spec.prefix;
    }
  }

  /** Offers all tags of a repository; gives their sources. */
  async #lookAt(repository: string, signal: AbortSignal): Promise<string[]> {
    const { client, spec } = this.#parts;
    const sources: string[] = [];
    try {
      for await (const tag of client.tags(spec.host, repository, { signal })) {
        const source = await this.#lookAtTag(repository, tag, signal);
        if (source !== undefined) sources.push(source);
      }
    } catch (error) {
      // A repository that has lost its last tag may stay in the catalogue.
      if (!isGearError(error, 'not-found')) throw error;
    }
    return sources;
  }

  /** Offers a tag; gives its source. Undefined: it is not there. */
  async #lookAtTag(repository: string, tag: string, signal: AbortSignal): Promise<string | undefined> {
    const { client, spec, queue } = this.#parts;
    const reference = referenceOf(spec.host, repository, tag);
    if (reference === undefined) return undefined;
    const source = formatReference(reference);
    const known = queue.get(source)?.digest;
    const found = await client.head({ host: spec.host, repository }, tag, { known, signal });
    const digest = found === 'unchanged' ? known : found?.digest;
    if (digest === undefined) {
      queue.gone(source);
      return undefined;
    }
    queue.offer(source, digest);
    return source;
  }

  /** Offers all tags of a repository, and says which are not there any longer. */
  async #lookForGone(repository: string, signal: AbortSignal): Promise<void> {
    const { spec, queue } = this.#parts;
    const seen = new Set(await this.#lookAt(repository, signal));
    const start = `docker://${spec.host}/${repository}:`;
    for (const { source, origin } of queue.list()) {
      if (origin === 'watch' && source.startsWith(start) && !seen.has(source)) queue.gone(source);
    }
  }

  /** Looks at a tag that a notification named, and again a little later unless it is found to be new or to have moved. */
  async #followTag(repository: string, tag: string, signal: AbortSignal): Promise<void> {
    const { spec, queue } = this.#parts;
    const name = `${repository}:${tag}`;
    const digest = () => queue.get(`docker://${spec.host}/${name}`)?.digest;
    const before = digest();
    await this.#lookAtTag(repository, tag, signal);
    const attempt = this.#again.get(name) ?? 0;
    const delay = AGAIN[attempt];
    if (digest() !== before || delay === undefined) {
      this.#again.delete(name);
      return;
    }
    this.#again.set(name, attempt + 1);
    setTimeout(() => this.#addHint(repository, tag), delay).unref();
  }

  /** Looks at what notifications named. Gives whether all of it answered. */
  async #followHints(signal: AbortSignal): Promise<boolean> {
    for (const [repository, tags] of this.#hints) {
      this.#hints.delete(repository);
      try {
        if (tags.size === 0) await this.#lookForGone(repository, signal);
        else for (const tag of tags) await this.#followTag(repository, tag, signal);
      } catch (error) {
        signal.throwIfAborted();
        this.#log.warn({ repository, reason: messageOf(error) }, 'what a notification named could not be read');
        return false;
      }
    }
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new GearError('unavailable', 'the manager is stopping'));
    this.#news.resolve();
    await this.#working;
  }
}
