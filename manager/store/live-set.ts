import { DIGEST_BYTES, type Digest, digestToBytes } from '#core/digest.ts';

const BITS_PER_DIGEST = 32;
const WORDS = DIGEST_BYTES / 4;

/**
 * Which objects are in use, as a Bloom filter: four bytes an object, whatever their number. It may take an object for one in use (about
 * one in 170,000), which then stays until the next collection; it never takes one in use for garbage. A digest's own words are its hashes.
 */
export class LiveSet {
  readonly #bits: Uint8Array;
  readonly #size: number;
  // Other collisions in every collection, so that nothing stays for ever.
  readonly #salt = Math.floor(Math.random() * 2 ** 32);

  /** `count`: how many digests will be added at most. */
  constructor(count: number) {
    this.#size = Math.max(1024, count * BITS_PER_DIGEST);
    this.#bits = new Uint8Array(Math.ceil(this.#size / 8));
  }

  /** Adds digests of 32 bytes each, concatenated. */
  addAll(digests: Buffer): void {
    for (let at = 0; at + DIGEST_BYTES <= digests.length; at += DIGEST_BYTES) {
      for (let word = 0; word < WORDS; word++) {
        const bit = this.#bit(digests.readUInt32LE(at + word * 4));
        const byte = Math.floor(bit / 8);
        this.#bits[byte] = (this.#bits[byte] as number) | (1 << (bit % 8));
      }
    }
  }

  /** Whether an object may be in use; false only if it certainly is not. */
  has(digest: Digest): boolean {
    const bytes = digestToBytes(digest);
    for (let word = 0; word < WORDS; word++) {
      const bit = this.#bit(bytes.readUInt32LE(word * 4));
      if (((this.#bits[Math.floor(bit / 8)] as number) & (1 << (bit % 8))) === 0) return false;
    }
    return true;
  }

  #bit(word: number): number {
    return Math.floor((((word ^ this.#salt) >>> 0) / 2 ** 32) * this.#size);
  }
}
