import { createHash, hash } from 'node:crypto';
import { GearError } from './errors.ts';

declare const digestBrand: unique symbol;
/** A sha256 as 64 lowercase hexadecimal digits, without an algorithm's name in front. */
export type Digest = string & { readonly [digestBrand]: true };

const HEX = /^[0-9a-f]{64}$/;
export const DIGEST_BYTES = 32;

/** The sha256 of `bytes`. */
export function digestOf(bytes: Uint8Array): Digest {
  return hash('sha256', bytes, 'hex') as Digest;
}

/** Takes 64 hexadecimal digits, with or without "sha256:" in front. Throws invalid-argument. */
export function parseDigest(text: string): Digest {
  const hex = text.startsWith('sha256:') ? text.slice(7) : text;
  if (!HEX.test(hex))
    throw new GearError('invalid-argument', `not a sha256 digest: ${JSON.stringify(text.slice(0, 100))}`);
  return hex as Digest;
}

/** Whether `text` is 64 lowercase hexadecimal digits. */
export function isDigest(text: string): text is Digest {
  return HEX.test(text);
}

/** Takes the 32 raw bytes. Throws invalid-argument. */
export function digestFromBytes(bytes: Uint8Array): Digest {
  if (bytes.length !== DIGEST_BYTES) {
    throw new GearError('invalid-argument', `a sha256 digest has ${DIGEST_BYTES} bytes, not ${bytes.length}`);
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex') as Digest;
}

/** The 32 raw bytes. */
export function digestToBytes(digest: Digest): Buffer {
  return Buffer.from(digest, 'hex');
}

/** As OCI writes it: "sha256:...". */
export function ociDigest(digest: Digest): string {
  return `sha256:${digest}`;
}

/** Where an object lies below a folder of objects: "aa/bbbb...". */
export function objectPath(digest: Digest): string {
  return `${digest.slice(0, 2)}/${digest.slice(2)}`;
}

/** A sha256 that is fed piece by piece. */
export class Hasher {
  readonly #hash = createHash('sha256');
  #size = 0;

  update(bytes: Uint8Array): this {
    this.#hash.update(bytes);
    this.#size += bytes.length;
    return this;
  }

  /** Bytes so far. */
  get size(): number {
    return this.#size;
  }

  /** The digest; the hasher is used up. */
  digest(): Digest {
    return this.#hash.digest('hex') as Digest;
  }
}
