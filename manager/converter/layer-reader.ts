import { type FileHandle, open } from 'node:fs/promises';
import { pipeline, Readable, type Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { type Digest, Hasher, ociDigest } from '#core/digest.ts';
import { GearError, isErrno, messageOf } from '#core/errors.ts';
import type { Descriptor } from '../registry/manifest.ts';

/** Bytes read from the blob at once; and bytes of tar that the decompressor gives at once, and may be ahead of the reader. */
const READ_SIZE = 256 * 1024;
const PIECE_SIZE = 256 * 1024;
const AHEAD = 1024 * 1024;

export type Compression = 'gzip' | 'zstd' | 'none';

export interface LayerReaderOptions {
  /** Names the layer in errors: "docker://...: layer 2 of 5 (sha256:...)". */
  readonly name: string;
  /** What the config says that the uncompressed tar's digest is. */
  readonly diffId: Digest;
  readonly signal: AbortSignal;
  /** Called with the compressed bytes of each read. */
  readonly onRead?: ((bytes: number) => void) | undefined;
}

/** What the first bytes say; media types are often wrong about it. Throws unsupported, by name, for compressions that images do not use. */
function compressionOf(head: Buffer, name: string): Compression {
  if (head.length >= 2 && head.readUInt16BE(0) === 0x1f8b) return 'gzip';
  if (head.length >= 4) {
    const magic = head.readUInt32LE(0);
    // A zstd frame, or one of the sixteen kinds of skippable frames.
    if (magic === 0xfd2fb528 || (magic & 0xfffffff0) >>> 0 === 0x184d2a50) return 'zstd';
    const other = head.subarray(0, 3).toString('latin1') === 'BZh' ? 'bzip2' : magic === 0x587a37fd ? 'xz' : undefined;
    if (other !== undefined)
      throw new GearError('unsupported', `${name} is compressed with ${other}: gzip, zstd and none are supported`);
  }
  return 'none';
}

/** How the blob in a file is compressed. Throws as above. */
export async function compressionOfFile(path: string, name: string): Promise<Compression> {
  await using handle = await open(path);
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(8), 0, 8, 0);
  return compressionOf(buffer.subarray(0, bytesRead), name);
}

/** One layer's blob, uncompressed as it is read, its digest and diff id verified on the way. */
export class LayerReader implements AsyncDisposable {
  readonly #handle: FileHandle;
  readonly #blob: Descriptor;
  readonly #options: LayerReaderOptions;
  readonly #blobHash = new Hasher();
  readonly #tarHash = new Hasher();
  readonly #pieces: AsyncGenerator<Buffer, void, void>;
  #ended = false;

  private constructor(handle: FileHandle, blob: Descriptor, options: LayerReaderOptions) {
    this.#handle = handle;
    this.#blob = blob;
    this.#options = options;
    this.#pieces = this.#uncompressed();
  }

  /** Opens the file that holds the blob. Throws corrupt where it is missing. */
  static async open(path: string, blob: Descriptor, options: LayerReaderOptions): Promise<LayerReader> {
    try {
      return new LayerReader(await open(path), blob, options);
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
      throw new GearError('corrupt', `${options.name}: the source does not have this blob`, { cause: error });
    }
  }

  /** The bytes of the tar, once. Whoever stops early leaves the rest to `finish`. */
  get content(): AsyncIterable<Buffer> {
    // Without `return`: a reader that has seen the tar's end must not end the verification.
    return { [Symbol.asyncIterator]: () => ({ next: () => this.#pieces.next() }) };
  }

  /** Reads on to the end. Throws corrupt unless blob and tar are what manifest and config say. Gives the tar's size in bytes. */
  async finish(): Promise<{ tarSize: number }> {
    while ((await this.#pieces.next()).done !== true);
    while (!this.#ended) await this.#read();
    const tarSize = this.#tarHash.size;
    if (this.#blob.size !== this.#blobHash.size) {
      throw this.#corrupt(`the blob has ${this.#blobHash.size} bytes, the manifest says ${this.#blob.size}`);
    }
    const blobDigest = this.#blobHash.digest();
    if (blobDigest !== this.#blob.digest) throw this.#corrupt(`the blob's digest is ${ociDigest(blobDigest)}`);
    const diffId = this.#tarHash.digest();
    if (diffId !== this.#options.diffId) {
      throw this.#corrupt(
        `the uncompressed layer's digest is ${ociDigest(diffId)}, the config says ${ociDigest(this.#options.diffId)}`,
      );
    }
    return { tarSize };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pieces.return();
    await this.#handle.close();
  }

  #corrupt(why: string, cause?: unknown): GearError {
    return new GearError('corrupt', `${this.#options.name}: ${why}`, { cause });
  }

  async #read(): Promise<Buffer | undefined> {
    this.#options.signal.throwIfAborted();
    const { bytesRead, buffer } = await this.#handle.read(Buffer.allocUnsafe(READ_SIZE), 0, READ_SIZE, null);
    if (bytesRead === 0) {
      this.#ended = true;
      return undefined;
    }
    const piece = buffer.subarray(0, bytesRead);
    this.#blobHash.update(piece);
    this.#options.onRead?.(bytesRead);
    return piece;
  }

  async *#compressed(head: Buffer | undefined): AsyncGenerator<Buffer, void, void> {
    for (let piece = head; piece !== undefined; piece = await this.#read()) yield piece;
  }

  async *#uncompressed(): AsyncGenerator<Buffer, void, void> {
    const head = await this.#read();
    const compression = compressionOf(head ?? Buffer.alloc(0), this.#options.name);
    const source = this.#compressed(head);
    for await (const piece of compression === 'none' ? source : this.#decompress(source, compression)) {
      this.#tarHash.update(piece);
      yield piece;
    }
  }

  async *#decompress(source: AsyncIterable<Buffer>, compression: 'gzip' | 'zstd'): AsyncGenerator<Buffer, void, void> {
    const options = { chunkSize: PIECE_SIZE, readableHighWaterMark: AHEAD };
    const decompressor: Transform = compression === 'gzip' ? createGunzip(options) : createZstdDecompress(options);
    const failed = Promise.withResolvers<void>();
    pipeline(Readable.from(source, { objectMode: true, highWaterMark: 1 }), decompressor, (error) =>
      error == null ? failed.resolve() : failed.reject(error),
    );
    failed.promise.catch(() => {});
    try {
      yield* decompressor as AsyncIterable<Buffer>;
    } catch (error) {
      this.#options.signal.throwIfAborted();
      if (!isErrno(error) && !/^(Z_|ZSTD_|ERR_ZLIB)/.test(String((error as NodeJS.ErrnoException).code))) throw error;
      const truncated = (error as NodeJS.ErrnoException).code === 'Z_BUF_ERROR';
      throw this.#corrupt(`${compression}: ${truncated ? 'the layer is truncated' : messageOf(error)}`, error);
    } finally {
      decompressor.destroy();
    }
  }
}
