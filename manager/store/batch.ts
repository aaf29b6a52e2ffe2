import { closeSync, mkdirSync, openSync, rmSync, unlinkSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { temporaryName } from '#core/atomic-file.ts';
import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { ChunkHasher } from '#core/index/chunks.ts';
import { DEFAULT_CHUNK_SIZE } from '#core/index/tree.ts';
import { diskError } from './disk-error.ts';
import type { FilesystemObjectStore } from './filesystem.ts';
import type { Flusher } from './flush.ts';
import type { Layout } from './layout.ts';
import type { Lease, Leases } from './leases.ts';
import type { AddedObject, BatchOptions, ObjectBatch } from './object-store.ts';
import { touch } from './touch.ts';

/** Of every object: an NFS client runs only what its server says may be run, whatever the index says of it. */
export const OBJECT_MODE = 0o555;
/** Up to here an object is gathered in memory, so that one that the store has is never written. */
const IN_MEMORY = 1024 * 1024;
const WRITE_BYTES = 1024 * 1024;
/** A batch that has grown to this is committed, in the background, while it is added to. */
const COMMIT_AT = { objects: 16_384, bytes: 512 * 1024 * 1024 };

/** Between turns of the event loop. */
const RENAMES_PER_TURN = 500;

const NO_CHUNKS = Buffer.alloc(0);

interface Pending {
  readonly temporary: string;
  readonly size: number;
}

export interface BatchContext {
  readonly layout: Layout;
  readonly leases: Leases;
  readonly flusher: Flusher;
  readonly store: Pick<FilesystemObjectStore, 'find' | 'changed'>;
}

/** Writes objects to temporary files, flushes them all at once, and gives them their names. */
export class FilesystemBatch implements ObjectBatch {
  readonly #context: BatchContext;
  readonly #chunkSize: number;
  readonly #commitAt: typeof COMMIT_AT;
  readonly #lease: Lease;
  readonly #claim: boolean;
  readonly #folder: string;
  #folderMade = false;
  #files = 0;
  /** Whole and verified, but not flushed yet. */
  #pending = new Map<Digest, Pending>();
  #pendingBytes = 0;
  #committing: Promise<void> = Promise.resolve();
  #beingCommitted: Map<Digest, Pending> | undefined;
  #newObjects = 0;
  #newBytes = 0;

  constructor(
    context: BatchContext,
    { chunkSize = DEFAULT_CHUNK_SIZE, claim = false }: BatchOptions,
    commitAt = COMMIT_AT,
  ) {
    this.#claim = claim;
    this.#commitAt = commitAt;
    this.#context = context;
    this.#chunkSize = chunkSize;
    this.#lease = context.leases.open();
    this.#folder = join(context.layout.tmp, temporaryName());
  }

  get newObjects(): number {
    return this.#newObjects;
  }

  get newBytes(): number {
    return this.#newBytes;
  }

  async add(content: AsyncIterable<Uint8Array>, size: number, expected?: Digest): Promise<AddedObject> {
    if (size > IN_MEMORY) return await this.#addLarge(content, size, expected);
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    for await (const piece of content) {
      bytes += piece.length;
      if (bytes > size) throw wrongSize(bytes, size, expected);
      pieces.push(piece);
    }
    if (bytes !== size) throw wrongSize(bytes, size, expected);
    return await this.addBytes(pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces, size), expected);
  }

  async addBytes(bytes: Uint8Array, expected?: Digest): Promise<AddedObject> {
    if (bytes.length === 0) throw new GearError('invalid-argument', 'an object cannot be empty');
    const added =
      bytes.length <= this.#chunkSize
        ? { digest: digestOf(bytes), chunkDigests: NO_CHUNKS }
        : new ChunkHasher(this.#chunkSize).update(bytes).digests();
    verify(added.digest, expected);
    if (this.#has(added.digest, bytes.length)) return added;
    const temporary = this.#temporary();
    this.#guard(temporary, () => writeFile(temporary, bytes));
    await this.#enqueue(added.digest, { temporary, size: bytes.length });
    return added;
  }

  async #addLarge(
    content: AsyncIterable<Uint8Array>,
    size: number,
    expected: Digest | undefined,
  ): Promise<AddedObject> {
    const hasher = new ChunkHasher(this.#chunkSize);
    // What the store has is hashed nevertheless: whoever sends other bytes must hear of it.
    const skip = expected !== undefined && this.#has(expected, size);
    const temporary = skip ? undefined : this.#temporary();
    let added: AddedObject;
    try {
      added = await receive(content, size, hasher, temporary, expected);
      verify(added.digest, expected);
    } catch (error) {
      if (temporary === undefined) throw error;
      rmSync(temporary, { force: true });
      throw diskError(error, temporary);
    }
    if (temporary === undefined) return added;
    if (this.#has(added.digest, size)) unlinkSync(temporary);
    else await this.#enqueue(added.digest, { temporary, size });
    return added;
  }

  async commit(): Promise<void> {
    while (this.#pending.size > 0) {
      await this.#committing;
      this.#startCommit();
    }
    await this.#committing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#committing.catch(() => {});
    if (this.#folderMade) rmSync(this.#folder, { recursive: true, force: true });
    this.#lease[Symbol.dispose]();
  }

  /** Whether nothing has to be written: the object is in this batch, or in the store with that size. */
  #has(digest: Digest, size: number): boolean {
    if (this.#pending.has(digest) || this.#beingCommitted?.has(digest) === true) return true;
    return this.#context.store.find(digest, this.#since()) === size;
  }

  /** Since when things must be marked as used to be kept for whoever uses this batch. */
  #since(): number {
    return this.#claim ? this.#context.leases.claim() : this.#lease.since;
  }

  #temporary(): string {
    if (!this.#folderMade) {
      mkdirSync(this.#folder);
      this.#folderMade = true;
    }
    return `${this.#folder}/${this.#files++}`;
  }

  #guard(temporary: string, write: () => void): void {
    try {
      write();
    } catch (error) {
      rmSync(temporary, { force: true });
      throw diskError(error, temporary);
    }
  }

  async #enqueue(digest: Digest, pending: Pending): Promise<void> {
    this.#context.flusher.changed(pending.temporary);
    this.#pending.set(digest, pending);
    this.#pendingBytes += pending.size;
    this.#newObjects++;
    this.#newBytes += pending.size;
    if (this.#pending.size < this.#commitAt.objects && this.#pendingBytes < this.#commitAt.bytes) return;
    // One commit at a time; so what is not durable yet is bounded by two batches.
    await this.#committing;
    this.#startCommit();
  }

  #startCommit(): void {
    if (this.#beingCommitted !== undefined || this.#pending.size === 0) return;
    const objects = this.#pending;
    this.#pending = new Map();
    this.#pendingBytes = 0;
    this.#beingCommitted = objects;
    this.#committing = this.#commit(objects).finally(() => {
      this.#beingCommitted = undefined;
    });
    // Whoever adds or commits next hears of it.
    this.#committing.catch(() => {});
  }

  async #commit(objects: ReadonlyMap<Digest, Pending>): Promise<void> {
    const { flusher, layout, store } = this.#context;
    try {
      await flusher.flush();
      let done = 0;
      for (const [digest, { temporary, size }] of objects) {
        if (++done % RENAMES_PER_TURN === 0) await nextTurn();
        // An object that somebody else has added meanwhile stays the same file: NFS clients may have it open.
        if (store.find(digest, this.#since()) === size) {
          unlinkSync(temporary);
          this.#newObjects--;
          this.#newBytes -= size;
          continue;
        }
        touch(temporary);
        for (const folder of layout.place(temporary, layout.object(digest))) flusher.changed(folder);
        store.changed(1, size);
      }
      await flusher.flush();
    } catch (error) {
      for (const { temporary } of objects.values()) rmSync(temporary, { force: true });
      throw diskError(error, this.#folder);
    }
  }
}

function writeFile(path: string, bytes: Uint8Array): void {
  const descriptor = openSync(path, 'wx', OBJECT_MODE);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at, bytes.length - at);
  } finally {
    closeSync(descriptor);
  }
}

/** Reads exactly `size` bytes of `content` into the hasher and, where a path is given, a new file. */
async function receive(
  content: AsyncIterable<Uint8Array>,
  size: number,
  hasher: ChunkHasher,
  path: string | undefined,
  expected: Digest | undefined,
): Promise<AddedObject> {
  await using handle = path === undefined ? undefined : await open(path, 'wx', OBJECT_MODE);
  let gathered: Uint8Array[] = [];
  let bytes = 0;
  let writing: Promise<unknown> | undefined;
  // Hashing one piece goes on beside writing the one before.
  const write = async () => {
    await writing;
    const pieces = gathered;
    writing = handle?.writeFile(pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces, bytes));
    writing?.catch(() => {});
    gathered = [];
    bytes = 0;
  };
  try {
    for await (const piece of content) {
      hasher.update(piece);
      if (hasher.size > size) throw wrongSize(hasher.size, size, expected);
      gathered.push(piece);
      bytes += piece.length;
      if (bytes >= WRITE_BYTES) await write();
    }
    if (hasher.size !== size) throw wrongSize(hasher.size, size, expected);
    await write();
  } finally {
    await writing?.catch(() => {});
  }
  await writing;
  return hasher.digests();
}

function verify(digest: Digest, expected: Digest | undefined): void {
  if (expected === undefined || digest === expected) return;
  throw new GearError(
    'invalid-argument',
    `object ${ociDigest(expected)}: the bytes sent are those of ${ociDigest(digest)}`,
    {
      fields: { digest: expected, found: digest },
    },
  );
}

function wrongSize(bytes: number, size: number, expected: Digest | undefined): GearError {
  const what = expected === undefined ? 'object' : `object ${ociDigest(expected)}`;
  return new GearError(
    'invalid-argument',
    bytes > size
      ? `${what}: more than the announced ${size} bytes`
      : `${what}: ${bytes} bytes instead of the announced ${size}`,
  );
}
