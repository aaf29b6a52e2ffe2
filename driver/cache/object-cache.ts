import { chmodSync, lstatSync } from 'node:fs';
import { type Digest, digestOf } from '#core/digest.ts';
import { isErrno, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { SingleFlight } from '#core/single-flight.ts';
import { Evictor } from './evictor.ts';
import { Fetcher, type FetchOptions, type RemoteReader } from './fetcher.ts';
import { FlushMark } from './flush-mark.ts';
import type { Batch } from './incoming.ts';
import type { CacheLayout } from './layout.ts';
import { chunkDigestOf, isSmall, type WantedObject } from './object.ts';
import { OpenFiles } from './open-files.ts';
import type { PartialObject } from './partial-object.ts';
import { PartialStore } from './partial-store.ts';
import { PublicCache } from './public-cache.ts';

/** Where the bytes that a request wanted were. */
export type Origin = 'public' | 'remote';

/** Evicted at once on a full disk, so that the next object does not find it full again. */
const LEAST_ROOM = 16 * 1024 * 1024;

export interface ObjectCacheOptions {
  readonly layout: CacheLayout;
  readonly remote: RemoteReader;
  readonly log: Logger;
  /** Bytes; 0: no limit. */
  readonly cacheSize: number;
}

/** All of a node's caches over the remote: gives objects and ranges of them to images, fetching each byte once whoever asks for it. */
export class ObjectCache {
  readonly #layout: CacheLayout;
  readonly #log: Logger;
  readonly #public: PublicCache;
  readonly #partials: PartialStore;
  readonly #files = new OpenFiles();
  readonly #whole = new SingleFlight<Digest, void>();
  readonly #finishing = new Map<PartialObject, Promise<boolean>>();
  readonly mark: FlushMark;
  readonly evictor: Evictor;
  readonly fetcher: Fetcher;

  /** The folders must be there and trustworthy: see recoverCaches. */
  constructor({ layout, remote, log, cacheSize }: ObjectCacheOptions) {
    this.#layout = layout;
    this.#log = log;
    this.mark = new FlushMark(layout.mark, layout.paths.public);
    this.fetcher = new Fetcher(remote, log);
    this.#public = new PublicCache(layout, this.mark);
    this.#partials = new PartialStore(layout, {
      fetcher: this.fetcher,
      note: () => this.mark.note(),
      added: (bytes) => this.evictor.added(bytes),
      withRoom: (bytes, write) => this.#withRoom(bytes, write),
    });
    this.evictor = new Evictor([this.#public, this.#partials], cacheSize, log);
  }

  /** Whether the whole object is on this node. */
  isHere(image: Digest, object: WantedObject): boolean {
    return this.#public.has(object.digest) || this.#public.isPinned(image, object.digest);
  }

  /** Pins the object for the image if the whole of it is on this node. Gives whether it is. */
  pin(image: Digest, object: WantedObject): boolean {
    return this.#public.pin(image, object.digest);
  }

  /** The file of an object that is pinned. */
  pinnedFile(image: Digest, object: WantedObject): string {
    return this.#layout.privateFile(image, object.digest);
  }

  /** Makes sure that the whole object is on this node and pinned for the image. Gives how many bytes were fetched for this caller. */
  async whole(image: Digest, object: WantedObject, options: FetchOptions): Promise<number> {
    let fetched = 0;
    for (;;) {
      if (await this.#pinWithRoom(image, object)) return fetched;
      const work = isSmall(object) ? this.#fetchSmall : this.#fetchLarge;
      await this.#whole.run(
        object.digest,
        async (signal) => {
          fetched += object.size;
          await work.call(this, image, object, { ...options, signal });
        },
        { signal: options.signal },
      );
    }
  }

  /** At most `size` bytes of the object from `offset` on, in pieces; of a large one only the chunks in question are fetched. */
  async read(
    image: Digest,
    object: WantedObject,
    offset: number,
    size: number,
    options: FetchOptions,
  ): Promise<{ pieces: readonly Buffer[]; fetched: number }> {
    const file = this.pinnedFile(image, object);
    if (this.isPinned(image, object) || (await this.#pinWithRoom(image, object))) {
      return { pieces: [this.#files.read(file, offset, size)], fetched: 0 };
    }
    if (isSmall(object)) {
      const fetched = await this.whole(image, object, options);
      return { pieces: [this.#files.read(file, offset, size)], fetched };
    }
    const partial = this.#partials.find(object) ?? (await this.#fetchedPartial(object));
    return await this.#readPartial(partial, image, offset, size, options);
  }

  /**
   * Takes a chunk of `batch` that came unasked. Where it is right it goes to those who wait for it, or into the caches; with `pin` the image gets the object as
   * if it had touched it. Gives whether the bytes were right.
   */
  async take(
    image: Digest,
    object: WantedObject,
    chunk: number,
    bytes: Buffer,
    { batch, pin }: { readonly batch: Batch; readonly pin: boolean },
  ): Promise<boolean> {
    const wanted = isSmall(object) ? object.digest : chunkDigestOf(object, chunk).toString('hex');
    if (digestOf(bytes) !== wanted) {
      batch.lose(object.digest, chunk);
      return false;
    }
    // Whoever waited puts it where it belongs.
    if (batch.deliver(object.digest, chunk, bytes)) return true;
    if (isSmall(object)) {
      if (!this.#public.has(object.digest)) {
        await this.#withRoom(bytes.length, () => this.#public.add(object.digest, bytes));
        this.evictor.added(bytes.length);
      }
      if (pin) await this.#pinWithRoom(image, object);
      return true;
    }
    if (this.isHere(image, object)) return true;
    const partial = this.#partials.find(object) ?? (await this.#newPartial(object));
    if (pin) partial.images.add(image);
    await partial.put(chunk, bytes);
    if (partial.full && !partial.liar) await this.#finish(partial);
    return true;
  }

  /** Of an object of several chunks that is not whole: a bit for each chunk that is here; undefined where there is nothing of it. */
  chunksHere(object: WantedObject): Buffer | undefined {
    return this.#partials.find(object)?.bits();
  }

  /** Writes what is pending to the disk and closes files. */
  async close(): Promise<void> {
    this.#files.close();
    this.#public.close();
    this.#partials.close();
    await this.mark.flush();
  }

  async #readPartial(partial: PartialObject, image: Digest, offset: number, size: number, options: FetchOptions) {
    partial.images.add(image);
    const result = await partial.read(offset, size, options);
    if (partial.full && !partial.liar) {
      // The reader has its bytes; the rest is for those who come later.
      this.#finish(partial).catch((err: unknown) =>
        this.#log.error({ err, object: partial.object.digest }, 'not published'),
      );
    }
    return result;
  }

  async #newPartial(object: WantedObject): Promise<PartialObject> {
    let partial: PartialObject | undefined;
    await this.#withRoom(object.chunkSize, () => {
      partial = this.#partials.get(object);
    });
    return partial as PartialObject;
  }

  /** A partial object of which the first chunk is about to be fetched. */
  async #fetchedPartial(object: WantedObject): Promise<PartialObject> {
    const partial = await this.#newPartial(object);
    this.fetcher.fetchedObjects++;
    return partial;
  }

  async #fetchSmall(_image: Digest, object: WantedObject, options: FetchOptions): Promise<void> {
    const prepare = setImmediate(() => this.#prepare());
    const bytes = await this.fetcher.whole(object, options).finally(() => clearImmediate(prepare));
    await this.#withRoom(bytes.length, () => this.#public.add(object.digest, bytes));
    this.evictor.added(bytes.length);
  }

  #prepare(): void {
    try {
      this.#public.prepare();
    } catch (error) {
      // A full disk: adding the object makes room.
      this.#log.debug(messageOf(error));
    }
  }

  async #fetchLarge(image: Digest, object: WantedObject, options: FetchOptions): Promise<void> {
    const partial = this.#partials.find(object) ?? (await this.#fetchedPartial(object));
    partial.images.add(image);
    // Twice at most: chunks of an earlier run of the machine may turn out damaged only now.
    for (let attempt = 0; attempt < 2; attempt++) {
      await partial.ensure(0, object.size, options);
      if (await this.#finish(partial)) return;
    }
    throw new Error(`object ${object.digest}: its chunks match the index and the whole does not match its digest`);
  }

  /** Turns a partial object whose chunks are all here into an ordinary one. */
  #finish(partial: PartialObject): Promise<boolean> {
    const known = this.#finishing.get(partial);
    if (known !== undefined) return known;
    const work = this.#publish(partial).finally(() => this.#finishing.delete(partial));
    this.#finishing.set(partial, work);
    return work;
  }

  async #publish(partial: PartialObject): Promise<boolean> {
    const { object } = partial;
    if (partial.liar || !(await partial.verifyWhole())) {
      if (partial.liar)
        this.#log.error({ object: object.digest }, 'the index lies: its chunk digests are not those of the object');
      return false;
    }
    chmodSync(`${partial.file}.data`, 0o444);
    this.#public.adopt(object.digest, `${partial.file}.data`);
    this.#partials.remove(partial);
    for (const image of partial.images) {
      try {
        await this.#pinWithRoom(image, object);
      } catch (error) {
        this.#log.warn({ image, object: object.digest }, `not pinned: ${messageOf(error)}`);
      }
    }
    return true;
  }

  async #pinWithRoom(image: Digest, object: WantedObject): Promise<boolean> {
    let pinned = false;
    const pin = () => {
      pinned = this.#public.pin(image, object.digest);
    };
    await this.#withRoom(4096, pin);
    return pinned;
  }

  /** Runs `write`; on a full disk evicts what nobody uses and tries once more. */
  async #withRoom(bytes: number, write: () => void): Promise<void> {
    try {
      write();
    } catch (error) {
      if (!isErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
      const freed = await this.evictor.makeRoom(Math.max(bytes * 2, LEAST_ROOM));
      this.#log.warn({ wanted: bytes, freed }, 'the disk of the caches is full');
      if (freed === 0) throw error;
      write();
    }
  }

  /** Whether the object lies in the image's private cache. */
  isPinned(image: Digest, object: WantedObject): boolean {
    return lstatSync(this.pinnedFile(image, object), { throwIfNoEntry: false }) !== undefined;
  }
}
