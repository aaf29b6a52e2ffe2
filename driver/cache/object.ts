import { DIGEST_BYTES, type Digest } from '#core/digest.ts';

/** An object as an image's index describes it. */
export interface WantedObject {
  readonly digest: Digest;
  /** Bytes; more than 0. */
  readonly size: number;
  /** Bytes in a chunk. */
  readonly chunkSize: number;
  /** 32 bytes each, concatenated; empty where the object is at most one chunk. */
  readonly chunkDigests: Buffer;
}

export function isSmall(object: WantedObject): boolean {
  return object.size <= object.chunkSize;
}

/** How many bytes chunk number `chunk` has. */
export function chunkLength(object: WantedObject, chunk: number): number {
  return Math.min(object.chunkSize, object.size - chunk * object.chunkSize);
}

/** The digest of a chunk; a view. */
export function chunkDigestOf(object: WantedObject, chunk: number): Buffer {
  return object.chunkDigests.subarray(chunk * DIGEST_BYTES, (chunk + 1) * DIGEST_BYTES);
}
