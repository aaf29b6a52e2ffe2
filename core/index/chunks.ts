import { createHash, type Hash } from 'node:crypto';
import { DIGEST_BYTES, type Digest } from '../digest.ts';

/** What an index says about a content: its digest, and unless it fits into one chunk the digests of its chunks (32 bytes each). */
export interface ContentDigests {
  readonly size: number;
  readonly digest: Digest;
  readonly chunkDigests: Buffer;
}

const NO_CHUNKS = Buffer.alloc(0);

/** Bytes of `chunkDigests` for a content of `size` bytes. */
export function chunkDigestBytes(size: number, chunkSize: number): number {
  return size > chunkSize ? Math.ceil(size / chunkSize) * DIGEST_BYTES : 0;
}

/** Hashes a content that comes in pieces, as a whole and by chunk, in one pass. The size need not be known before. */
export class ChunkHasher {
  readonly #chunkSize: number;
  readonly #whole = createHash('sha256');
  readonly #chunks: Buffer[] = [];
  /** Of the current chunk; the first chunk needs none, since up to its end the whole's state is its own. */
  #chunk: Hash | undefined;
  /** Bytes of the current chunk so far. */
  #filled = 0;
  #size = 0;

  constructor(chunkSize: number) {
    this.#chunkSize = chunkSize;
  }

  /** Bytes so far. */
  get size(): number {
    return this.#size;
  }

  update(bytes: Uint8Array): this {
    for (let at = 0; at < bytes.length; ) {
      // A chunk is closed only when more follows: a content of exactly one chunk has no chunk digests.
      if (this.#filled === this.#chunkSize) this.#closeChunk();
      const take = Math.min(bytes.length - at, this.#chunkSize - this.#filled);
      const piece = take === bytes.length ? bytes : bytes.subarray(at, at + take);
      this.#whole.update(piece);
      this.#chunk?.update(piece);
      this.#filled += take;
      at += take;
    }
    this.#size += bytes.length;
    return this;
  }

  /** The digests; the hasher is used up. */
  digests(): ContentDigests {
    const isChunked = this.#size > this.#chunkSize;
    if (isChunked) this.#closeChunk();
    return {
      size: this.#size,
      digest: this.#whole.digest('hex') as Digest,
      chunkDigests: isChunked ? Buffer.concat(this.#chunks) : NO_CHUNKS,
    };
  }

  #closeChunk(): void {
    this.#chunks.push((this.#chunk ?? this.#whole.copy()).digest());
    this.#chunk = createHash('sha256');
    this.#filled = 0;
  }
}
