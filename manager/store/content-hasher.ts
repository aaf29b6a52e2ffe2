import { hash } from 'node:crypto';
import { type Digest, Hasher } from '#core/digest.ts';
import type { AddedObject } from './object-store.ts';

/** The digest of an object and of its chunks, of bytes that are in memory. */
export function hashContent(bytes: Uint8Array, chunkSize: number): AddedObject {
  const digest = hash('sha256', bytes, 'hex') as Digest;
  if (bytes.length <= chunkSize) return { digest, chunkDigests: Buffer.alloc(0) };
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += chunkSize) {
    chunks.push(hash('sha256', bytes.subarray(at, at + chunkSize), 'buffer'));
  }
  return { digest, chunkDigests: Buffer.concat(chunks) };
}

/** The same, fed piece by piece. */
export class ContentHasher {
  readonly #chunkSize: number;
  readonly #whole = new Hasher();
  readonly #chunks: string[] = [];
  #chunk = new Hasher();

  constructor(chunkSize: number) {
    this.#chunkSize = chunkSize;
  }

  /** Bytes so far. */
  get size(): number {
    return this.#whole.size;
  }

  update(bytes: Uint8Array): void {
    this.#whole.update(bytes);
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + this.#chunkSize - this.#chunk.size);
      this.#chunk.update(part);
      at += part.length;
      if (this.#chunk.size === this.#chunkSize) this.#endChunk();
    }
  }

  /** The hasher is used up. */
  finish(): AddedObject {
    if (this.#chunk.size > 0 && this.#chunks.length > 0) this.#endChunk();
    const chunkDigests = this.size <= this.#chunkSize ? Buffer.alloc(0) : Buffer.from(this.#chunks.join(''), 'hex');
    return { digest: this.#whole.digest(), chunkDigests };
  }

  #endChunk(): void {
    this.#chunks.push(this.#chunk.digest());
    this.#chunk = new Hasher();
  }
}
