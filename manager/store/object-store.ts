import type { Abortable } from '#core/abort.ts';
import type { Digest } from '#core/digest.ts';
import type { Keeps } from './leases.ts';

/** What adding one object told. */
export interface AddedObject {
  readonly digest: Digest;
  /** sha256 of each chunk, 32 bytes each, concatenated; empty for an object of one chunk. */
  readonly chunkDigests: Buffer;
}

export interface ReadRange {
  /** Bytes; default 0. */
  readonly offset?: number | undefined;
  /** Bytes; default (and 0): to the end. What lies behind the end is left out. */
  readonly length?: number | undefined;
}

/**
 * Adds objects. An object that is added is verified and counted as present for later adds of this batch; it is in the store (durable,
 * visible to readers) after `commit`, or earlier. Disposed without commit, what was not committed by then is gone.
 *
 * While a batch is open, garbage collection removes nothing that the batch added or found.
 */
export interface ObjectBatch extends AsyncDisposable {
  /**
   * Takes exactly `size` bytes. Throws invalid-argument for another size, or for another digest than `expected`; resource-exhausted when the disk
   * is full. May be called again before an earlier call has finished.
   */
  add(content: AsyncIterable<Uint8Array>, size: number, expected?: Digest): Promise<AddedObject>;
  /** The same for bytes that are in memory. */
  addBytes(bytes: Uint8Array, expected?: Digest): Promise<AddedObject>;
  /** Makes all that was added durable and visible. The batch can be used further. */
  commit(): Promise<void>;
  /** Objects added that the store did not have, and their bytes. */
  readonly newObjects: number;
  readonly newBytes: number;
}

export interface BatchOptions {
  /** Keeps what is added or found for the grace period: it is for a client that will register an image in another call. */
  readonly claim?: boolean | undefined;
  /** Bytes in a chunk, for the digests of chunks; default 128 KiB; infinity: none are wanted. */
  readonly chunkSize?: number | undefined;
}

/** Objects by digest. Nothing of it changes an object that is there. */
export interface ObjectStore {
  has(digest: Digest): Promise<boolean>;
  /**
   * Those of `digests` that the store does not have, in the order given. What it has is kept, from this moment on for the grace period, from garbage
   * collection: whoever asks is about to rely on it.
   */
  missing(digests: readonly Digest[], options?: Abortable): Promise<Digest[]>;
  /** Bytes, or undefined where the store does not have it. */
  size(digest: Digest): Promise<number | undefined>;
  /** The bytes of a range, in pieces of at most 128 KiB. Throws not-found, out-of-range (the offset lies behind the end) and corrupt. */
  read(digest: Digest, range?: ReadRange & Abortable): AsyncGenerator<Buffer, void, void>;
  /** A range in one piece if it is small (at most 128 KiB), undefined otherwise. Throws as `read` does. */
  readSmall(digest: Digest, range?: ReadRange): Promise<Buffer | undefined>;
  batch(options?: BatchOptions): ObjectBatch;
  /**
   * Removes one object unless `keeps` says, by when it was last added or found, that it must stay; between that question and the removal nobody can
   * find it. Gives the bytes freed; undefined if it stays or is not there.
   */
  remove(digest: Digest, keeps: Keeps): Promise<number | undefined>;
  /** Every object, in ascending order of digests. */
  list(options?: Abortable): AsyncGenerator<StoredObject, void, void>;
}

export interface StoredObject {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  /** When it was last added or found (milliseconds since 1970). */
  readonly usedAt: number;
}
