import type { Digest } from '#core/digest.ts';
import { digestFromBytes, digestToBytes } from '#core/digest.ts';
import type { Connection } from '#core/grpc/client.ts';
import { MAX_DIGESTS_PER_REQUEST } from '#core/grpc/limits.ts';
import { ContentStoreService, type WriteRequest } from '#proto/gen/gear/v1/objects.ts';
import { Spool, type SpooledObject } from './spool.ts';
import type { TargetObjects } from './target.ts';
import { WRITE_OBJECTS } from './write-objects.ts';

/** A spool that has grown to this is uploaded, while the next one is filled. */
const SPOOL_BYTES = 64 * 1024 * 1024;
const FIND_TIMEOUT = 60_000;

export interface UploadOptions {
  readonly connection: Connection;
  /** Where the spools lie. */
  readonly folder: string;
  readonly chunkSize: number;
  readonly signal: AbortSignal;
}

/** Sends objects to a manager, but only those that it lacks. */
export class Upload implements TargetObjects {
  readonly #options: UploadOptions;
  /** What the manager has for certain, or is being sent. */
  readonly #known = new Set<Digest>();
  #spool: Spool | undefined;
  #uploading: Promise<void> = Promise.resolve();
  #newObjects = 0;
  #newBytes = 0;

  constructor(options: UploadOptions) {
    this.#options = options;
  }

  get newObjects(): number {
    return this.#newObjects;
  }

  get newBytes(): number {
    return this.#newBytes;
  }

  async add(content: AsyncIterable<Buffer>, size: number): Promise<{ digest: Digest; chunkDigests: Buffer }> {
    this.#spool ??= await Spool.open(this.#options.folder);
    const added = await this.#spool.add(content, size, this.#options.chunkSize, (digest) => this.#known.has(digest));
    if (this.#spool.size >= SPOOL_BYTES || this.#spool.objects.size >= MAX_DIGESTS_PER_REQUEST) await this.#rotate();
    return added;
  }

  async commit(): Promise<void> {
    await this.#rotate();
    await this.#uploading;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#uploading.catch(() => {});
    await this.#spool?.[Symbol.asyncDispose]();
  }

  /** Starts the upload of what is spooled, once the one before is done; so there are never more than two spools. */
  async #rotate(): Promise<void> {
    await this.#uploading;
    const spool = this.#spool;
    if (spool === undefined) return;
    this.#spool = undefined;
    for (const digest of spool.objects.keys()) this.#known.add(digest);
    this.#uploading = this.#upload(spool);
    // Whoever adds or commits next hears of it.
    this.#uploading.catch(() => {});
  }

  async #upload(spool: Spool): Promise<void> {
    await using _spool = spool;
    const { connection, signal } = this.#options;
    if (spool.objects.size === 0) return;
    const digests = [...spool.objects.keys()].map(digestToBytes);
    const answer = await connection.unary(
      ContentStoreService.findMissing,
      { digests },
      { signal, timeout: FIND_TIMEOUT },
    );
    const missing = new Set(answer.digests.map(digestFromBytes));
    const objects = [...spool.objects.values()].filter(({ digest }) => missing.has(digest));
    if (objects.length === 0) return;
    const written = await connection.clientStream(WRITE_OBJECTS, writeRequests(spool, objects), { signal });
    this.#newObjects += Number(written.objects);
    this.#newBytes += Number(written.bytes);
  }
}

async function* writeRequests(
  spool: Spool,
  objects: readonly SpooledObject[],
): AsyncGenerator<WriteRequest, void, void> {
  for await (const { object, piece, isFirst } of spool.read(objects)) {
    if (isFirst) {
      yield { part: { $case: 'header', value: { digest: digestToBytes(object.digest), size: BigInt(object.size) } } };
    }
    yield { part: { $case: 'data', value: piece } };
  }
}
