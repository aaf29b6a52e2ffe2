import { deadline } from '#core/abort.ts';
import { isErrno, isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { isSmall } from '../cache/object.ts';
import type { ObjectCache } from '../cache/object-cache.ts';
import { FuseError } from '../kernel/fuse/errno.ts';
import type { Call, Opened } from '../kernel/fuse/file-system.ts';
import { OPEN_FLAGS } from '../kernel/fuse/flags.ts';
import type { NodeId, Uint64 } from '../kernel/fuse/request.ts';
import type { DirectOpens } from './direct-opens.ts';
import type { ImageEntry } from './image-entry.ts';
import type { Learning } from './learning.ts';

export const NO_HANDLE: Uint64 = { high: 0, low: 0 };

export interface ObjectAccessOptions {
  readonly cache: ObjectCache;
  readonly opens: DirectOpens;
  /** Hears of every touch. */
  readonly learning: Learning;
  readonly log: Logger;
  /** Milliseconds that a read may wait for its bytes. */
  readonly deadline: () => number;
  /** Whether the kernel can read complete objects past us; asked when the first object is looked up. */
  readonly passthrough: () => boolean;
}

/**
 * When a read ahead has failed, the kernel asks again at once for the page that the program wanted, which may be all that was read ahead. That must not
 * wait a second time: for so long (ms) after a range was given up, what lies in it is waited for only briefly (ms).
 */
const REPEAT = 500;
const BRIEF = 100;

/** Bytes of an object that were waited for in vain, and when that ended. */
interface GivenUp {
  readonly time: number;
  readonly start: number;
  readonly end: number;
}

/** A request of the kernel's that waits for bytes. */
interface Wait {
  readonly entry: ImageEntry;
  readonly digest: string;
  readonly milliseconds: number;
  /** Called when most of that time went by in vain. */
  readonly waited?: (() => void) | undefined;
}

/** How the file systems open and read an image's objects: `row` is the object's in the image's table. */
export class ObjectAccess {
  readonly #options: ObjectAccessOptions;
  /** By digest. */
  readonly #gaveUp = new Map<string, GivenUp>();

  constructor(options: ObjectAccessOptions) {
    this.#options = options;
  }

  /** The kernel looks for the image's folder, as it does for every mount over it. */
  mounted(entry: ImageEntry): void {
    this.#options.learning.mounted(entry);
  }

  /**
   * Whether the kernel is to read the object past us. Looking up is all that happens here: overlayfs looks for the contents also for a chmod or a
   * rename, which must not fetch them.
   */
  isDirect(entry: ImageEntry, row: number): boolean {
    const { cache, passthrough } = this.#options;
    const object = entry.object(row);
    return (
      passthrough() &&
      (isSmall(object) || (cache.isHere(entry.image, object) && !this.#options.learning.watchesReads(entry)))
    );
  }

  /** The same without a look at the caches: for listings, where an object must not be one node today and another tomorrow. */
  isSmallDirect(entry: ImageEntry, row: number): boolean {
    return this.#options.passthrough() && isSmall(entry.object(row));
  }

  openCached(entry: ImageEntry, row: number): Opened {
    this.#touch(entry, row);
    return { handle: NO_HANDLE, flags: OPEN_FLAGS.KEEP_CACHE };
  }

  /** Opens the object as `node`, waiting until the whole of it is here. */
  openDirect(entry: ImageEntry, row: number, node: NodeId, call: Call): Opened | Promise<Opened> {
    const backingId = this.#options.opens.join(node, call.number);
    return backingId === undefined ? this.#openDirect(entry, row, node, call) : this.#opened(node, call, backingId);
  }

  async read(entry: ImageEntry, row: number, offset: number, size: number, call: Call): Promise<readonly Uint8Array[]> {
    const object = entry.object(row);
    const { learning } = this.#options;
    learning.read(entry, row, offset, size);
    const asksAgain = this.#wasGivenUp(object.digest, offset, offset + size);
    const milliseconds = asksAgain ? Math.min(BRIEF, this.#options.deadline()) : this.#options.deadline();
    const waited = asksAgain ? undefined : () => this.#noteGivenUp(object.digest, offset, offset + size);
    return await this.#withDeadline(
      { entry, digest: object.digest, milliseconds, waited },
      call.signal,
      async (signal) => {
        const { pieces, fetched } = await this.#options.cache.read(entry.image, object, offset, size, { signal });
        entry.fetchedBytes += fetched;
        if (fetched > 0) learning.fetched(entry);
        return pieces;
      },
    );
  }

  /** A node that was opened with `openDirect` was closed. */
  releaseDirect(node: NodeId, handle: Uint64): void {
    this.#options.opens.release(node, handle);
  }

  /** Notes a touch, which is an open, and pins the object where it is on this node. */
  #touch(entry: ImageEntry, row: number): void {
    const object = entry.object(row);
    const first = entry.touch(row);
    let here = false;
    try {
      here = this.#options.cache.pin(entry.image, object);
    } catch (error) {
      // A full disk, mostly: reading makes room, or fails with the right error.
      this.#options.log.debug({ image: entry.image, object: object.digest }, `not pinned yet: ${messageOf(error)}`);
    }
    if (first && here) entry.fromPublic++;
    if (first && !here) entry.fromRemote++;
  }

  async #openDirect(entry: ImageEntry, row: number, node: NodeId, call: Call): Promise<Opened> {
    const { cache, opens, learning } = this.#options;
    const object = entry.object(row);
    this.#touch(entry, row);
    learning.opened(entry, row);
    const milliseconds = this.#options.deadline();
    return await this.#withDeadline({ entry, digest: object.digest, milliseconds }, call.signal, async (signal) => {
      const fetched = cache.isPinned(entry.image, object) ? 0 : await cache.whole(entry.image, object, { signal });
      entry.fetchedBytes += fetched;
      if (fetched > 0) learning.fetched(entry);
      return this.#opened(node, call, opens.open(node, call.number, cache.pinnedFile(entry.image, object)));
    });
  }

  #opened(node: NodeId, call: Call, backingId: number): Opened {
    const handle = call.number;
    const undelivered = () => this.#options.opens.release(node, handle);
    return { handle, flags: OPEN_FLAGS.PASSTHROUGH, backingId, undelivered };
  }

  #noteGivenUp(digest: string, start: number, end: number): void {
    const time = performance.now();
    for (const [known, { time: then }] of this.#gaveUp) if (time - then >= REPEAT) this.#gaveUp.delete(known);
    // One wait of a program's may be several requests of the kernel's, which end together.
    const known = this.#gaveUp.get(digest) ?? { start, end };
    this.#gaveUp.set(digest, { time, start: Math.min(start, known.start), end: Math.max(end, known.end) });
  }

  #wasGivenUp(digest: string, start: number, end: number): boolean {
    const known = this.#gaveUp.get(digest);
    return known !== undefined && known.start <= start && end <= known.end && performance.now() - known.time < REPEAT;
  }

  async #withDeadline<T>(
    { entry, digest, milliseconds, waited }: Wait,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const began = performance.now();
    using limited = deadline(milliseconds, `object ${digest} of image ${entry.image}`, signal);
    try {
      return await work(limited);
    } catch (error) {
      // Whoever asked is being killed.
      if (error instanceof FuseError) throw error;
      if (performance.now() - began >= milliseconds / 2) waited?.();
      entry.errors++;
      const errno = isErrno(error, 'ENOSPC', 'EDQUOT') ? 'ENOSPC' : 'EIO';
      const code = isGearError(error) ? error.code : isErrno(error) ? error.code : undefined;
      this.#options.log.error({ image: entry.image, object: digest, code, errno }, messageOf(error));
      throw new FuseError(errno, messageOf(error), { cause: error });
    }
  }
}
