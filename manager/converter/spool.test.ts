import { randomBytes } from 'node:crypto';
import { mkdtempDisposable, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Digest, digestOf } from '#core/digest.ts';
import { Spool } from './spool.ts';

const CHUNK = 4096;
async function* inPieces(bytes: Buffer, size = 100_000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
const nobodyKnows = () => false;

async function contents(spool: Spool): Promise<Map<Digest, Buffer>> {
  const found = new Map<Digest, Buffer>();
  for await (const { object, piece, isFirst } of spool.read(spool.objects.values())) {
    expect(isFirst).toBe(!found.has(object.digest));
    found.set(object.digest, Buffer.concat([found.get(object.digest) ?? Buffer.alloc(0), piece]));
  }
  return found;
}

describe('Spool', () => {
  it('gives back what it took, once each', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'gear-'));
    const objects = [10, 1, 5_000_000, 4096, 2_000_000, 100, 1_048_576, 3].map((size) => randomBytes(size));
    {
      await using spool = await Spool.open(folder.path);
      for (const bytes of [...objects, ...objects.toReversed()]) {
        const { digest, chunkDigests } = await spool.add(inPieces(bytes), bytes.length, CHUNK, nobodyKnows);
        expect(digest).toBe(digestOf(bytes));
        expect(chunkDigests).toHaveLength(bytes.length > CHUNK ? Math.ceil(bytes.length / CHUNK) * 32 : 0);
      }
      expect(spool.size).toBe(objects.reduce((sum, { length }) => sum + length, 0));
      expect(await contents(spool)).toEqual(new Map(objects.map((bytes) => [digestOf(bytes), bytes])));
    }
    expect(await readdir(folder.path)).toEqual([]);
  });

  it('keeps nothing of what is known', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'gear-'));
    await using spool = await Spool.open(folder.path);
    const [known, kept, more] = [randomBytes(3_000_000), randomBytes(500_000), randomBytes(2_500_000)];
    const isKnown = (digest: Digest) => digest === digestOf(known);
    for (const bytes of [known, kept, known, more, known])
      await spool.add(inPieces(bytes), bytes.length, CHUNK, isKnown);
    expect(spool.size).toBe(kept.length + more.length);
    expect(await contents(spool)).toEqual(new Map([kept, more].map((bytes) => [digestOf(bytes), bytes])));
  });

  it.each([9, 11])('refuses a content of another size than %i', async (size) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'gear-'));
    await using spool = await Spool.open(folder.path);
    await expect(spool.add(inPieces(Buffer.alloc(10)), size, CHUNK, nobodyKnows)).rejects.toThrow(
      expect.objectContaining({ code: 'invalid-argument' }),
    );
  });
});
