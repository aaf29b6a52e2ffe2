import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import type { Abortable } from '#core/abort.ts';
import { type Digest, digestOf, Hasher } from '#core/digest.ts';
import { SingleFlight } from '#core/single-flight.ts';
import { CHUNK, ChunkMap } from './chunk-map.ts';
import type { Fetcher, FetchOptions } from './fetcher.ts';
import { chunkDigestOf, chunkLength, type WantedObject } from './object.ts';

/** A row of neighbouring chunks. */
interface Run {
  readonly first: number;
  readonly count: number;
}

/** What a partial object needs of the cache around it. */
export interface PartialHost {
  readonly fetcher: Fetcher;
  /** Before something is written. */
  note(): void;
  /** Bytes that were added to the disk. */
  added(bytes: number): void;
  /** Runs `write`; where the disk is full, once more after making room for `bytes`. */
  withRoom(bytes: number, write: () => void): Promise<void>;
}

/** No more than this is asked for in one request, whatever is missing. */
const MAX_RUN_BYTES = 4 * 1024 * 1024;

/** An object of more than one chunk that is not whole yet: a sparse file and a map of its chunks. Only verified chunks are ever read out of it. */
export class PartialObject {
  readonly object: WantedObject;
  readonly file: string;
  readonly #host: PartialHost;
  readonly #fd: number;
  readonly #map: ChunkMap;
  readonly #flights = new SingleFlight<string, void>();
  /** Of the chunks on their way: the run that brings them. */
  readonly #coming = new Map<number, Run>();
  /** Images that have read from it: they get it pinned once it is whole. */
  readonly images = new Set<Digest>();
  /** The chunks are right and the whole is not: the index that listed them lies. It can be read, and is never shared. */
  liar = false;
  /** Milliseconds since 1970. */
  usedAt = Date.now();
  #users = 0;
  #retired = false;

  /** `file` without its ending. */
  constructor(object: WantedObject, file: string, host: PartialHost) {
    this.object = object;
    this.file = file;
    this.#host = host;
    closeSync(openSync(`${file}.data`, 'a', 0o444));
    this.#fd = openSync(`${file}.data`, 'r+');
    this.#map = new ChunkMap(`${file}.map`, Math.ceil(object.size / object.chunkSize));
  }

  /** Every chunk is here, at least by what the map says. */
  get full(): boolean {
    return this.#map.full;
  }

  /** At most `size` bytes from `offset` on, in pieces; fetches the chunks that are missing, and only them. Gives also how many bytes that were. */
  async read(
    offset: number,
    size: number,
    options: FetchOptions,
  ): Promise<{ pieces: readonly Buffer[]; fetched: number }> {
    const end = Math.min(offset + size, this.object.size);
    if (offset >= end) return { pieces: [], fetched: 0 };
    using _use = this.#use();
    const brought = new Map<number, Buffer>();
    const fetched = await this.ensure(offset, end, options, brought);
    return { pieces: this.#brought(offset, end, brought) ?? [this.#readRange(offset, end)], fetched };
  }

  /**
   * Makes sure that the chunks with the bytes from `offset` to `end` (not included) are here and verified. Gives how many bytes it fetched;
   * the chunks themselves go into `brought` where they were fetched for this caller.
   */
  async ensure(offset: number, end: number, options: FetchOptions, brought?: Map<number, Buffer>): Promise<number> {
    using _use = this.#use();
    const last = Math.floor((end - 1) / this.object.chunkSize);
    let fetched = 0;
    const waits: Promise<void>[] = [];
    let chunk = Math.floor(offset / this.object.chunkSize);
    while (chunk <= last) {
      if (this.#isHere(chunk)) {
        chunk++;
        continue;
      }
      let run = this.#coming.get(chunk);
      if (run === undefined) {
        run = this.#missingRun(chunk, last);
        for (let i = 0; i < run.count; i++) fetched += chunkLength(this.object, chunk + i);
      }
      waits.push(this.#bring(run, options, brought));
      chunk = run.first + run.count;
    }
    // All are awaited, whatever becomes of one of them: none may fail unseen.
    const results = await Promise.allSettled(waits);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    return fetched;
  }

  /** Puts in a chunk that came unasked, verified by the caller. Gives whether it was missing. */
  async put(chunk: number, bytes: Buffer): Promise<boolean> {
    using _use = this.#use();
    if (this.#isHere(chunk)) return false;
    await this.#store(chunk, bytes);
    return true;
  }

  /** A bit for each chunk that is here, the lowest bit of the first byte for the first. */
  bits(): Buffer {
    const bits = Buffer.alloc(Math.ceil(this.#map.chunks / 8));
    for (let chunk = 0; chunk < this.#map.chunks; chunk++) {
      if (this.#map.state(chunk) !== CHUNK.absent) bits[chunk >>> 3] = (bits[chunk >>> 3] ?? 0) | (1 << (chunk & 7));
    }
    return bits;
  }

  /** Reads the whole file and compares its digest; chunks that turn out wrong are given up. To be called when `full`. */
  async verifyWhole({ signal }: Abortable = {}): Promise<boolean> {
    using _use = this.#use();
    const hasher = new Hasher();
    const piece = Buffer.allocUnsafe(1024 * 1024);
    for (let offset = 0; offset < this.object.size; offset += piece.length) {
      signal?.throwIfAborted();
      const part = piece.subarray(0, Math.min(piece.length, this.object.size - offset));
      this.#readAll(part, offset);
      hasher.update(part);
      // Requests go first.
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (hasher.digest() === this.object.digest) return true;
    let all = true;
    for (let chunk = 0; chunk < this.#map.chunks; chunk++) all = this.#verify(chunk) && all;
    this.liar = all;
    return false;
  }

  /** Whether somebody reads it now. */
  get busy(): boolean {
    return this.#users > 0;
  }

  /**
   * Closes its files as soon as the last reader is done, and with "remove" deletes their names at once (what was moved elsewhere stays there). Nobody
   * may start to use it any more.
   */
  retire(how: 'close' | 'remove'): void {
    this.#retired = true;
    if (how === 'remove') {
      rmSync(`${this.file}.map`, { force: true });
      rmSync(`${this.file}.data`, { force: true });
    }
    if (this.#users === 0) this.#close();
  }

  // A descriptor that is closed under a reader might be another file's by the time it reads.
  #use(): Disposable {
    this.usedAt = Date.now();
    this.#users++;
    return {
      [Symbol.dispose]: () => {
        if (--this.#users === 0 && this.#retired) this.#close();
      },
    };
  }

  #close(): void {
    closeSync(this.#fd);
    this.#map[Symbol.dispose]();
  }

  #isHere(chunk: number): boolean {
    const state = this.#map.state(chunk);
    return state === CHUNK.verified || (state === CHUNK.claimed && this.#verify(chunk));
  }

  #verify(chunk: number): boolean {
    const bytes = Buffer.allocUnsafe(chunkLength(this.object, chunk));
    this.#readAll(bytes, chunk * this.object.chunkSize);
    const good = digestOf(bytes) === chunkDigestOf(this.object, chunk).toString('hex');
    if (good) this.#map.setVerified(chunk);
    else this.#map.setAbsent(chunk);
    return good;
  }

  #missingRun(first: number, last: number): Run {
    const most = Math.max(1, Math.floor(MAX_RUN_BYTES / this.object.chunkSize));
    let count = 1;
    while (first + count <= last && count < most && !this.#coming.has(first + count) && !this.#isHere(first + count))
      count++;
    return { first, count };
  }

  async #bring(run: Run, options: FetchOptions, brought: Map<number, Buffer> | undefined): Promise<void> {
    const { first, count } = run;
    const work = async (signal: AbortSignal): Promise<void> => {
      for (let i = 0; i < count; i++) this.#coming.set(first + i, run);
      try {
        const pieces = await this.#host.fetcher.chunks(this.object, first, count, { ...options, signal });
        for (const [i, bytes] of pieces.entries()) {
          await this.#store(first + i, bytes);
          brought?.set(first + i, bytes);
        }
      } finally {
        for (let i = 0; i < count; i++) if (this.#coming.get(first + i) === run) this.#coming.delete(first + i);
      }
    };
    await this.#flights.run(`${first}+${count}`, work, { signal: options.signal });
  }

  async #store(chunk: number, bytes: Buffer): Promise<void> {
    const start = chunk * this.object.chunkSize;
    this.#host.note();
    await this.#host.withRoom(bytes.length, () => {
      for (let done = 0; done < bytes.length; )
        done += writeSync(this.#fd, bytes, done, bytes.length - done, start + done);
      this.#map.setVerified(chunk);
    });
    this.#host.added(bytes.length);
  }

  /** The range out of chunks that are in memory anyway; undefined where one of them is not. */
  #brought(offset: number, end: number, brought: ReadonlyMap<number, Buffer>): Buffer[] | undefined {
    const { chunkSize } = this.object;
    const pieces: Buffer[] = [];
    for (let chunk = Math.floor(offset / chunkSize); chunk * chunkSize < end; chunk++) {
      const bytes = brought.get(chunk);
      if (bytes === undefined) return undefined;
      const start = chunk * chunkSize;
      pieces.push(bytes.subarray(Math.max(0, offset - start), end - start));
    }
    return pieces;
  }

  #readRange(offset: number, end: number): Buffer {
    const bytes = Buffer.allocUnsafe(end - offset);
    this.#readAll(bytes, offset);
    return bytes;
  }

  #readAll(bytes: Buffer, offset: number): void {
    for (let done = 0; done < bytes.length; ) {
      const count = readSync(this.#fd, bytes, done, bytes.length - done, offset + done);
      // A file that is shorter than it should be ends in zeros, which no digest lets pass.
      if (count === 0) {
        bytes.fill(0, done);
        return;
      }
      done += count;
    }
  }
}
