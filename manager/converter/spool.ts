import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryName } from '#core/atomic-file.ts';
import type { Digest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { ChunkHasher, type ContentDigests } from '#core/index/chunks.ts';

/** Written, and read back, in pieces of about this many bytes. */
const PIECE = 1024 * 1024;

/** An object in a spool. */
export interface SpooledObject {
  readonly digest: Digest;
  readonly size: number;
  readonly offset: number;
}

/** Objects, one behind the other in a temporary file: for objects that must be known by digest before they can be sent. */
export class Spool implements AsyncDisposable {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #objects = new Map<Digest, SpooledObject>();
  /** What is not in the file yet, and where that begins. */
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #size = 0;

  private constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#handle = handle;
  }

  static async open(folder: string): Promise<Spool> {
    const path = join(folder, temporaryName());
    return new Spool(path, await open(path, 'wx+', 0o600));
  }

  get objects(): ReadonlyMap<Digest, SpooledObject> {
    return this.#objects;
  }

  /** Bytes of its objects. */
  get size(): number {
    return this.#size;
  }

  /**
   * Takes a content of exactly `size` bytes and hashes it on the way; keeps it unless `isKnown` says that nobody needs it. Throws invalid-argument for another size.
   */
  async add(
    content: AsyncIterable<Buffer>,
    size: number,
    chunkSize: number,
    isKnown: (digest: Digest) => boolean,
  ): Promise<ContentDigests> {
    const hasher = new ChunkHasher(chunkSize);
    const start = this.#size;
    for await (const piece of content) {
      hasher.update(piece);
      if (hasher.size > size) break;
      this.#pending.push(piece);
      this.#pendingBytes += piece.length;
      this.#size += piece.length;
      if (this.#pendingBytes >= PIECE) await this.#flush();
    }
    if (hasher.size !== size) {
      throw new GearError(
        'invalid-argument',
        `an object of ${size} bytes came with ${hasher.size > size ? 'more' : hasher.size}`,
      );
    }
    const digests = hasher.digests();
    if (isKnown(digests.digest) || this.#objects.has(digests.digest)) this.#cut(start);
    else this.#objects.set(digests.digest, { digest: digests.digest, size, offset: start });
    return digests;
  }

  /** The bytes of these objects, in pieces; in the order of their offsets this reads the file once from front to back. */
  async *read(
    objects: Iterable<SpooledObject>,
  ): AsyncGenerator<{ object: SpooledObject; piece: Buffer; isFirst: boolean }, void, void> {
    await this.#flush();
    let window: Buffer = Buffer.alloc(0);
    let windowStart = 0;
    for (const object of objects) {
      const end = object.offset + object.size;
      for (let at = object.offset; at < end; ) {
        if (at < windowStart || at >= windowStart + window.length) {
          const { buffer, bytesRead } = await this.#handle.read(Buffer.allocUnsafe(PIECE), 0, PIECE, at);
          if (bytesRead === 0) throw new GearError('internal', `the spool ${this.#path} ends at byte ${at}`);
          window = buffer.subarray(0, bytesRead);
          windowStart = at;
        }
        const piece = window.subarray(at - windowStart, Math.min(end - windowStart, window.length));
        yield { object, piece, isFirst: at === object.offset };
        at += piece.length;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
    await rm(this.#path, { force: true });
  }

  async #flush(): Promise<void> {
    const pieces = this.#pending;
    let position = this.#size - this.#pendingBytes;
    this.#pending = [];
    this.#pendingBytes = 0;
    for (const piece of pieces.length < 2 ? pieces : [Buffer.concat(pieces)]) {
      for (let at = 0; at < piece.length; ) {
        const { bytesWritten } = await this.#handle.write(piece, at, piece.length - at, position);
        at += bytesWritten;
        position += bytesWritten;
      }
    }
  }

  /** Forgets what was written behind `start`; what is in the file already is written over. */
  #cut(start: number): void {
    const flushed = this.#size - this.#pendingBytes;
    if (start >= flushed) {
      const kept = Buffer.concat(this.#pending).subarray(0, start - flushed);
      this.#pending = kept.length === 0 ? [] : [kept];
      this.#pendingBytes = kept.length;
    } else {
      this.#pending = [];
      this.#pendingBytes = 0;
    }
    this.#size = start;
  }
}
