import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { Random } from '../../test/support/random.ts';
import { ChunkHasher } from './chunks.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();

it.each([0, 1, 7, 8, 9, 16, 17, 100])('hashes %d bytes as a whole and in chunks of 8, however they come', (size) => {
  const random = new Random(size);
  const bytes = random.bytes(size);
  const chunks: Buffer[] = [];
  for (let at = 0; size > 8 && at < size; at += 8) chunks.push(sha256(bytes.subarray(at, at + 8)));
  for (let round = 0; round < 20; round++) {
    const hasher = new ChunkHasher(8);
    for (let at = 0; at < size; ) {
      const piece = bytes.subarray(at, at + random.int(0, 20));
      hasher.update(piece);
      at += piece.length;
    }
    expect(hasher.size).toBe(size);
    expect(hasher.digests()).toEqual({
      size,
      digest: sha256(bytes).toString('hex'),
      chunkDigests: Buffer.concat(chunks),
    });
  }
});
