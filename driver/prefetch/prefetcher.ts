import { sleep } from '#core/abort.ts';
import type { Digest } from '#core/digest.ts';
import { isGearError, messageOf } from '#core/errors.ts';
import { type Connection, connect } from '#core/grpc/client.ts';
import type { Logger } from '#core/log.ts';
import type { Access } from '#core/security/access.ts';
import { ContentStoreService } from '#proto/gen/gear/v1/objects.ts';
import { Batch } from '../cache/incoming.ts';
import type { CacheLayout } from '../cache/layout.ts';
import { chunkLength, type WantedObject } from '../cache/object.ts';
import type { ObjectCache } from '../cache/object-cache.ts';
import { haveOf } from './have.ts';
import { Prefetched, type PrefetchImage } from './prefetch-image.ts';
import { type Planned, receiveProfile } from './stream.ts';

/** Images at once; the others wait. Only the newest of them moves. */
const AT_ONCE = 4;
/** Images that wait. */
const MAX_WAITING = 64;
/** After a failure the next mount tries again, but not sooner. */
const RETRY_AFTER = 15_000;
/** Milliseconds for the first call to a manager, whose answer nobody needs. */
const GREETING = 5_000;
/** Milliseconds between two looks whether others still go first. */
const LOOK_AGAIN = 4;

export interface PrefetcherOptions {
  readonly cache: ObjectCache;
  readonly layout: CacheLayout;
  readonly manager: string;
  readonly access?: Access;
  readonly log: Logger;
  /** The image, if it is still on the node. */
  readonly find: (image: Digest) => PrefetchImage | undefined;
  /** One prefetch in so many does not pin what it brings, so that it is seen what of it is used; 0: none. */
  readonly audit: () => number;
}

interface Known {
  readonly prefetched: Prefetched;
  readonly at: number;
}

/** Brings what start-up profiles name onto the node before it is asked for. Whatever goes wrong only ends that. */
export class Prefetcher {
  readonly #options: PrefetcherOptions;
  readonly #log: Logger;
  readonly #known = new Map<Digest, Known>();
  readonly #waiting = new Map<Digest, PrefetchImage | undefined>();
  /** The one that moves comes last. */
  readonly #running: Digest[] = [];
  /** Brought since the start, and what that was on the wire. */
  bytes = 0;
  wireBytes = 0;
  #connection: Connection;
  #stop = new AbortController();

  constructor(options: PrefetcherOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#connection = connectEarly(options.manager, options.access);
  }

  /** What was brought for an image; undefined where that was never tried. */
  of(image: Digest): Prefetched | undefined {
    return this.#known.get(image)?.prefetched;
  }

  /** The images that are being prefetched. */
  get running(): readonly Digest[] {
    return this.#running;
  }

  /** From now on another manager is asked. What is under way ends. */
  askAnother(address: string, access: Access): void {
    this.#stop.abort();
    this.#connection.close();
    this.#stop = new AbortController();
    this.#connection = connectEarly(address, access);
  }

  /**
   * Has an image's profile brought here, the last one asked for first. Safe to repeat: what was brought is not asked for again. `early`: the image, where it
   * is still being made and cannot be found.
   */
  request(image: Digest, early?: PrefetchImage): void {
    const known = this.#known.get(image);
    if (this.#running.includes(image)) return;
    if (known !== undefined && (known.prefetched.problem === undefined || performance.now() - known.at < RETRY_AFTER))
      return;
    const wanted = early ?? this.#waiting.get(image);
    this.#waiting.delete(image);
    this.#waiting.set(image, wanted);
    if (this.#waiting.size > MAX_WAITING)
      for (const oldest of [...this.#waiting.keys()].slice(0, 1)) this.#waiting.delete(oldest);
    this.#next();
  }

  /** Ends what is under way. */
  stop(): void {
    this.#stop.abort();
    this.#connection.close();
  }

  /** Forgets what it knows of images that are gone. */
  tidy(): void {
    for (const image of this.#known.keys()) {
      if (!this.#running.includes(image) && this.#options.find(image) === undefined) this.#known.delete(image);
    }
  }

  #next(): void {
    while (this.#running.length < AT_ONCE) {
      const [image, early] = [...this.#waiting].at(-1) ?? [];
      if (image === undefined) return;
      this.#waiting.delete(image);
      this.#running.push(image);
      void this.#run(image, early).finally(() => {
        this.#running.splice(this.#running.indexOf(image), 1);
        this.#next();
      });
    }
  }

  async #run(image: Digest, early: PrefetchImage | undefined): Promise<void> {
    const began = performance.now();
    const { find, audit } = this.#options;
    const every = audit();
    const prefetched = new Prefetched(every === 0 || Math.random() * every >= 1);
    this.#known.set(image, { prefetched, at: began });
    try {
      const found = find(image) ?? early;
      if (found === undefined) this.#known.delete(image);
      else await this.#receive(found, prefetched);
    } catch (error) {
      prefetched.problem = messageOf(error);
      // Without a profile an image starts as it always did.
      const level = isGearError(error, 'not-found', 'unavailable', 'cancelled', 'unsupported') ? 'debug' : 'warn';
      this.#log[level]({ image }, `prefetch ended: ${messageOf(error)}`);
    } finally {
      prefetched.milliseconds = Math.round(performance.now() - began);
      const { chunks, bytes, wireBytes, milliseconds } = prefetched;
      if (chunks > 0) this.#log.info({ image, chunks, bytes, wireBytes, milliseconds }, 'start-up profile prefetched');
    }
  }

  async #receive(image: PrefetchImage, prefetched: Prefetched): Promise<void> {
    const { cache, layout } = this.#options;
    using stack = new DisposableStack();
    const wanted = new Map<string, { object: WantedObject; row: number; chunk: number }>();
    let batch = new Batch([]);
    await receiveProfile({
      connection: this.#connection,
      image: image.image,
      have: await haveOf(image, cache, layout),
      signal: this.#stop.signal,
      mayGoOn: () => this.#mayGoOn(image.image),
      onPlan: (plan) => {
        const known: { digest: Digest; chunk: number; bytes: number }[] = [];
        for (const planned of plan) {
          const found = locate(image, planned);
          if (found === undefined) continue;
          wanted.set(keyOf(planned), found);
          prefetched.plan(found.row, found.chunk);
          known.push({ digest: planned.digest, chunk: found.chunk, bytes: planned.length });
        }
        prefetched.planned = known.length;
        batch = new Batch(known);
        stack.use(cache.fetcher.incoming.add(batch));
      },
      onWire: (bytes) => {
        prefetched.wireBytes += bytes;
        this.wireBytes += bytes;
      },
      onChunk: async (planned, bytes) => {
        const found = wanted.get(keyOf(planned));
        // Not of this image: somebody reported nonsense, and it is not taken.
        if (found === undefined) return;
        const { object, chunk } = found;
        const good =
          bytes !== undefined && (await cache.take(image.image, object, chunk, bytes, { batch, pin: prefetched.pin }));
        if (bytes === undefined) batch.lose(object.digest, chunk);
        if (!good) {
          prefetched.lacking++;
          return;
        }
        prefetched.chunks++;
        prefetched.bytes += planned.length;
        this.bytes += planned.length;
      },
    });
  }

  /** Readers who wait for something else go first, and so does an image that was asked for later. */
  async #mayGoOn(image: Digest): Promise<void> {
    const { cache } = this.#options;
    const { signal } = this.#stop;
    while (cache.fetcher.waiting > 0 || this.#running.at(-1) !== image) await sleep(LOOK_AGAIN, { signal });
  }
}

/** A connection that is made before it is needed: an image's first start does not wait for shaking hands then. */
function connectEarly(address: string, access: Access | undefined): Connection {
  const connection = connect(address, 'manager address', access);
  connection.unary(ContentStoreService.findMissing, { digests: [] }, { timeout: GREETING }).catch(() => {});
  return connection;
}

function keyOf({ digest, offset }: Planned): string {
  return `${digest}/${offset}`;
}

/** Which chunk of the image that is; undefined where it is none. */
function locate(
  image: PrefetchImage,
  { digest, offset, length }: Planned,
): { object: WantedObject; row: number; chunk: number } | undefined {
  const row = image.table.find(digest);
  if (row === undefined) return undefined;
  const object = image.object(row);
  const chunk = offset / image.table.chunkSize;
  const isChunk = Number.isInteger(chunk) && chunk < image.table.chunkCount(row);
  return isChunk && chunkLength(object, chunk) === length ? { object, row, chunk } : undefined;
}
