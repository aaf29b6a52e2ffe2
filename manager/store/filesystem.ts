import {
  chmodSync,
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  type Stats,
  statSync,
  unlinkSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Abortable } from '#core/abort.ts';
import { type Digest, isDigest, ociDigest } from '#core/digest.ts';
import { GearError, isErrno } from '#core/errors.ts';
import { PIECE_BYTES } from '#core/grpc/limits.ts';
import { DEFAULT_CHUNK_SIZE } from '#core/index/tree.ts';
import { FilesystemBatch, OBJECT_MODE } from './batch.ts';
import type { Flusher } from './flush.ts';
import type { Layout } from './layout.ts';
import type { Keeps, Leases } from './leases.ts';
import type { BatchOptions, ObjectBatch, ObjectStore, ReadRange, StoredObject } from './object-store.ts';
import { touch } from './touch.ts';

export interface Usage {
  readonly objects: number;
  readonly bytes: number;
}

const SMALL = DEFAULT_CHUNK_SIZE;
/** Read from the disk at once. */
const READ_BYTES = 4 * PIECE_BYTES;
/** Between turns of the event loop. */
const LOOKUPS_PER_TURN = 2000;

/**
 * Objects as files. Small files are looked up, read and written by synchronous calls: those take some microseconds out of the page cache, where the
 * way through the thread pool takes a hundred. And what is found and marked as used within one turn cannot be removed in between.
 */
export class FilesystemObjectStore implements ObjectStore {
  readonly #layout: Layout;
  readonly #leases: Leases;
  readonly #flusher: Flusher;
  #usage: Usage = { objects: 0, bytes: 0 };

  constructor(layout: Layout, leases: Leases, flusher: Flusher) {
    this.#layout = layout;
    this.#leases = leases;
    this.#flusher = flusher;
  }

  async has(digest: Digest): Promise<boolean> {
    return (await this.size(digest)) !== undefined;
  }

  async missing(digests: readonly Digest[], { signal }: Abortable = {}): Promise<Digest[]> {
    const missing: Digest[] = [];
    for (let at = 0; at < digests.length; at += LOOKUPS_PER_TURN) {
      if (at > 0) await nextTurn(undefined, signal === undefined ? {} : { signal });
      const since = this.#leases.claim();
      for (const digest of digests.slice(at, at + LOOKUPS_PER_TURN)) {
        if (this.find(digest, since) === undefined) missing.push(digest);
      }
    }
    return missing;
  }

  async size(digest: Digest): Promise<number | undefined> {
    return sizeOf(statSync(this.#layout.object(digest), { throwIfNoEntry: false }));
  }

  /** The size of an object that is there, which is then marked as used since `since`. */
  find(digest: Digest, since: number): number | undefined {
    const path = this.#layout.object(digest);
    const stats = statSync(path, { throwIfNoEntry: false });
    const size = sizeOf(stats);
    if (size !== undefined && (stats as Stats).mtimeMs < since) touch(path);
    return size;
  }

  async readSmall(digest: Digest, { offset = 0, length = 0 }: ReadRange = {}): Promise<Buffer | undefined> {
    const descriptor = this.#open(digest);
    try {
      const bytes = rangeBytes(digest, fstatSync(descriptor).size, offset, length);
      if (bytes > SMALL) return undefined;
      const buffer = Buffer.allocUnsafeSlow(bytes);
      if (readSync(descriptor, buffer, 0, bytes, offset) !== bytes) throw damaged(digest);
      return buffer;
    } finally {
      closeSync(descriptor);
    }
  }

  async *read(digest: Digest, range: ReadRange & Abortable = {}): AsyncGenerator<Buffer, void, void> {
    const { offset = 0, length = 0, signal } = range;
    await using handle = await open(this.#layout.object(digest), 'r').catch((error: unknown) => {
      throw isErrno(error, 'ENOENT') ? notFound(digest) : error;
    });
    const end = offset + rangeBytes(digest, (await handle.stat()).size, offset, length);
    for (let at = offset; at < end; ) {
      signal?.throwIfAborted();
      const buffer = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, end - at));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) throw damaged(digest);
      at += bytesRead;
      for (let sent = 0; sent < bytesRead; sent += PIECE_BYTES) {
        yield buffer.subarray(sent, Math.min(bytesRead, sent + PIECE_BYTES));
      }
    }
  }

  /** Objects and their bytes, as far as known. */
  get usage(): Usage {
    return this.#usage;
  }

  /**
   * Counts what is there. Earlier versions stored objects that nobody may run; these are made like the others on the way, which costs nothing where
   * there are none: each is looked at anyway.
   */
  async count(options: Abortable = {}): Promise<void> {
    let objects = 0;
    let bytes = 0;
    for await (const { digest, size, mode } of this.#list(options)) {
      objects++;
      bytes += size;
      if (mode !== OBJECT_MODE) setMode(this.#layout.object(digest));
    }
    this.#usage = { objects, bytes };
  }

  /** Says that objects came to the store (or, negative, left it). */
  changed(objects: number, bytes: number): void {
    this.#usage = { objects: this.#usage.objects + objects, bytes: this.#usage.bytes + bytes };
  }

  batch(options: BatchOptions = {}): ObjectBatch {
    return new FilesystemBatch(
      { layout: this.#layout, leases: this.#leases, flusher: this.#flusher, store: this },
      options,
    );
  }

  async remove(digest: Digest, keeps: Keeps): Promise<number | undefined> {
    const path = this.#layout.object(digest);
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined || keeps(stats.mtimeMs)) return undefined;
    unlinkSync(path);
    this.changed(-1, -stats.size);
    return stats.size;
  }

  list(options: Abortable = {}): AsyncGenerator<StoredObject, void, void> {
    return this.#list(options);
  }

  async *#list({ signal }: Abortable): AsyncGenerator<StoredObject & { readonly mode: number }, void, void> {
    for (const prefix of this.#layout.foldersOf(this.#layout.objects)) {
      await nextTurn(undefined, signal === undefined ? {} : { signal });
      for (const name of readdirSync(`${this.#layout.objects}/${prefix}`).sort()) {
        const digest = prefix + name;
        if (!isDigest(digest)) continue;
        const stats = statSync(this.#layout.object(digest), { throwIfNoEntry: false });
        if (stats !== undefined) yield { digest, size: stats.size, usedAt: stats.mtimeMs, mode: stats.mode & 0o7777 };
      }
    }
  }

  #open(digest: Digest): number {
    try {
      return openSync(this.#layout.object(digest), 'r');
    } catch (error) {
      throw isErrno(error, 'ENOENT') ? notFound(digest) : error;
    }
  }
}

/** It may have been collected since it was found. */
function setMode(path: string): void {
  try {
    chmodSync(path, OBJECT_MODE);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

// An object is never empty: an empty file is one that a power cut has damaged, on a filesystem that does not keep its promises. It counts as
// missing, so that the next upload replaces it.
function sizeOf(stats: Stats | undefined): number | undefined {
  return stats === undefined || stats.size === 0 ? undefined : stats.size;
}

/** How many bytes a range has. Throws out-of-range, and corrupt for an empty file. */
function rangeBytes(digest: Digest, size: number, offset: number, length: number): number {
  if (size === 0) throw damaged(digest);
  if (offset > size) {
    throw new GearError('out-of-range', `object ${ociDigest(digest)} has ${size} bytes; there is nothing at ${offset}`);
  }
  return length === 0 ? size - offset : Math.min(length, size - offset);
}

function notFound(digest: Digest): GearError {
  return new GearError('not-found', `object ${ociDigest(digest)} is not in the store`, { fields: { digest } });
}

function damaged(digest: Digest): GearError {
  return new GearError(
    'corrupt',
    `object ${ociDigest(digest)} is damaged in the store: it is shorter than it was; "gear manager --verify" finds all such objects`,
    { fields: { digest } },
  );
}
