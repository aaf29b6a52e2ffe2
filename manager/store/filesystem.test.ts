import { chmodSync, mkdirSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ChunkHasher } from '#core/index/chunks.ts';
import { DEFAULT_CHUNK_SIZE } from '#core/index/tree.ts';
import { FilesystemBatch } from './batch.ts';
import { collect, piecesOf, randomObject, temporaryFiles, temporaryStore } from './testing.ts';

const SIZES = [1, 4096, DEFAULT_CHUNK_SIZE, DEFAULT_CHUNK_SIZE + 1, 1024 * 1024, 1024 * 1024 + 1, 3_000_000];
const nothing = () => false;

describe('adding objects', () => {
  it.each(SIZES)('stores %i bytes and tells the digests of their chunks', async (size) => {
    await using store = await temporaryStore();
    const { bytes, digest } = randomObject(size);
    {
      await using batch = store.objects.batch();
      const added = await batch.add(piecesOf(bytes), size, digest);
      expect(added).toMatchObject(pick(new ChunkHasher(DEFAULT_CHUNK_SIZE).update(bytes).digests()));
      expect(await store.objects.has(digest)).toBe(false);
      await batch.commit();
      expect([batch.newObjects, batch.newBytes]).toEqual([1, size]);
    }
    expect(await collect(store.objects.read(digest))).toEqual(bytes);
    expect(statSync(store.layout.object(digest)).mode & 0o7777).toBe(0o555);
    expect(await temporaryFiles(store.layout)).toEqual([]);
  });

  it.each([4096, 2_000_000])('refuses %i bytes of another digest, naming both', async (size) => {
    await using store = await temporaryStore();
    const { bytes, digest } = randomObject(size);
    const other = randomObject(size);
    await using batch = store.objects.batch();
    const adding = batch.add(piecesOf(bytes), size, other.digest);
    await expect(adding).rejects.toMatchObject({
      code: 'invalid-argument',
      fields: { digest: other.digest, found: digest },
    });
    await batch.commit();
    expect(await store.objects.missing([digest, other.digest])).toEqual([digest, other.digest]);
  });

  it.each([
    ['too few', 4096, 4097],
    ['too many', 4097, 4096],
    ['too few', 2_000_000, 2_000_001],
    ['too many', 2_000_001, 2_000_000],
  ])('refuses %s bytes (%i for %i)', async (_what, given, announced) => {
    await using store = await temporaryStore();
    const { bytes, digest } = randomObject(given);
    await using batch = store.objects.batch();
    const adding = batch.add(piecesOf(bytes), announced, digest);
    await expect(adding).rejects.toMatchObject({ code: 'invalid-argument', message: expect.stringContaining(digest) });
    // The batch is as good as before.
    await batch.add(piecesOf(bytes), given, digest);
    await batch.commit();
    expect(await store.objects.size(digest)).toBe(given);
  });

  it('refuses an empty object', async () => {
    await using store = await temporaryStore();
    await using batch = store.objects.batch();
    await expect(batch.addBytes(Buffer.alloc(0))).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  it('leaves nothing of a batch that is not committed', async () => {
    await using store = await temporaryStore();
    const small = randomObject(100);
    const large = randomObject(2_000_000);
    {
      await using batch = store.objects.batch();
      await batch.addBytes(small.bytes);
      await batch.add(piecesOf(large.bytes), large.bytes.length);
      expect(await temporaryFiles(store.layout)).not.toEqual([]);
    }
    expect(await temporaryFiles(store.layout)).toEqual([]);
    expect(await store.objects.missing([small.digest, large.digest])).toHaveLength(2);
  });

  it('stores one object once, whoever adds it how often', async () => {
    await using store = await temporaryStore();
    const objects = [...Array(50)].map((_, at) => randomObject(at % 10 === 0 ? 1_500_000 : 1000 + at));
    const add = async () => {
      await using batch = store.objects.batch();
      await Promise.all(
        objects.map(async ({ bytes, digest }) => await batch.add(piecesOf(bytes), bytes.length, digest)),
      );
      for (const { bytes } of objects) await batch.addBytes(bytes);
      await batch.commit();
      return batch.newObjects;
    };
    const counts = await Promise.all([add(), add(), add(), add()]);
    expect(counts.reduce((sum, count) => sum + count)).toBe(objects.length);
    for (const { bytes, digest } of objects) expect(await collect(store.objects.read(digest))).toEqual(bytes);
    expect(await temporaryFiles(store.layout)).toEqual([]);
    expect(await add()).toBe(0);
  });

  it('replaces a file that a crash has cut off', async () => {
    await using store = await temporaryStore();
    const { bytes, digest } = randomObject(5000);
    for (const left of [0, 1234]) {
      mkdirSync(dirname(store.layout.object(digest)), { recursive: true });
      writeFileSync(store.layout.object(digest), bytes.subarray(0, left));
      await using batch = store.objects.batch();
      await batch.addBytes(bytes, digest);
      await batch.commit();
      expect(await collect(store.objects.read(digest))).toEqual(bytes);
      chmodSync(store.layout.object(digest), 0o644);
    }
  });

  it('commits a large batch while it is added to', async () => {
    await using store = await temporaryStore();
    await using batch = new FilesystemBatch(store, {}, { objects: 50, bytes: 2_000_000 });
    const first = randomObject(64);
    await batch.addBytes(first.bytes);
    for (let at = 0; at < 220; at++) await batch.addBytes(randomObject(64 + at).bytes);
    expect(await store.objects.has(first.digest)).toBe(true);
    await Promise.all([...Array(9)].map(async () => await batch.addBytes(randomObject(800_000).bytes)));
    await batch.commit();
    expect((await Array.fromAsync(store.objects.list())).length).toBe(230);
    expect(batch.newObjects).toBe(230);
  });
});

describe('reading objects', () => {
  it.each([
    [0, 0, 300_000],
    [0, 1, 1],
    [299_999, 0, 1],
    [299_999, 5, 1],
    [300_000, 0, 0],
    [100_000, 150_000, 150_000],
    [131_071, 2, 2],
    [0, 999_999_999, 300_000],
  ])('gives the range from %i of %i bytes', async (offset, length, expected) => {
    await using store = await temporaryStore();
    const { bytes, digest } = randomObject(300_000);
    await using batch = store.objects.batch();
    await batch.addBytes(bytes);
    await batch.commit();
    const wanted = bytes.subarray(offset, offset + expected);
    expect(await collect(store.objects.read(digest, { offset, length }))).toEqual(wanted);
    const small = await store.objects.readSmall(digest, { offset, length });
    expect(small).toEqual(expected <= DEFAULT_CHUNK_SIZE ? wanted : undefined);
  });

  it('says what is wrong', async () => {
    await using store = await temporaryStore();
    const { bytes, digest } = randomObject(200_000);
    const { digest: absent } = randomObject(10);
    await using batch = store.objects.batch();
    await batch.addBytes(bytes);
    await batch.commit();
    await expect(collect(store.objects.read(absent))).rejects.toMatchObject({ code: 'not-found' });
    await expect(store.objects.readSmall(absent)).rejects.toMatchObject({ code: 'not-found' });
    await expect(store.objects.readSmall(digest, { offset: 200_001 })).rejects.toMatchObject({ code: 'out-of-range' });
    await expect(collect(store.objects.read(digest, { offset: 200_001 }))).rejects.toMatchObject({
      code: 'out-of-range',
    });
    chmodSync(store.layout.object(digest), 0o644);
    truncateSync(store.layout.object(digest), 0);
    await expect(collect(store.objects.read(digest))).rejects.toMatchObject({ code: 'corrupt' });
    await expect(store.objects.readSmall(digest)).rejects.toMatchObject({ code: 'corrupt' });
    expect(await store.objects.missing([digest])).toEqual([digest]);
  });

  it('stops when the signal aborts', async () => {
    await using store = await temporaryStore();
    const { bytes, digest } = randomObject(3_000_000);
    await using batch = store.objects.batch();
    await batch.addBytes(bytes);
    await batch.commit();
    const controller = new AbortController();
    const reading = store.objects.read(digest, { signal: controller.signal });
    await reading.next();
    controller.abort(new Error('enough'));
    await expect(collect(reading)).rejects.toThrow('enough');
  });
});

describe('removing objects', () => {
  it('removes what nobody keeps and counts it', async () => {
    await using store = await temporaryStore();
    const { bytes, digest } = randomObject(777);
    await using batch = store.objects.batch();
    await batch.addBytes(bytes);
    await batch.commit();
    expect(store.objects.usage).toEqual({ objects: 1, bytes: 777 });
    expect(await store.objects.remove(digest, () => true)).toBeUndefined();
    expect(await store.objects.remove(digest, nothing)).toBe(777);
    expect(await store.objects.remove(digest, nothing)).toBeUndefined();
    expect(store.objects.usage).toEqual({ objects: 0, bytes: 0 });
  });

  it.each(['found by a batch', 'asked for'])('keeps an old object that was %s', async (how) => {
    await using store = await temporaryStore();
    const { bytes, digest } = randomObject(777);
    {
      await using batch = store.objects.batch();
      await batch.addBytes(bytes);
      await batch.commit();
    }
    utimesSync(store.layout.object(digest), 1000, 1000);
    expect(store.leases.snapshot()(1_000_000)).toBe(false);
    await using batch = store.objects.batch();
    if (how === 'asked for') await store.objects.missing([digest]);
    else await batch.addBytes(bytes);
    expect(await store.objects.remove(digest, store.leases.snapshot())).toBeUndefined();
  });

  it('lists all in order', async () => {
    await using store = await temporaryStore();
    const objects = [...Array(100)].map((_, at) => randomObject(at + 1));
    await using batch = store.objects.batch();
    for (const { bytes } of objects) await batch.addBytes(bytes);
    await batch.commit();
    const listed = await Array.fromAsync(store.objects.list());
    expect(listed.map(({ digest }) => digest)).toEqual(objects.map(({ digest }) => digest).sort());
    await store.objects.count();
    expect(store.objects.usage).toEqual({ objects: 100, bytes: 5050 });
  });

  it('lets run, while it counts, what an earlier version stored', async () => {
    await using store = await temporaryStore();
    const { bytes, digest } = randomObject(10);
    await using batch = store.objects.batch();
    await batch.addBytes(bytes);
    await batch.commit();
    const path = store.layout.object(digest);
    chmodSync(path, 0o444);
    utimesSync(path, 1000, 1000);
    await store.objects.count();
    const { mode, mtimeMs } = statSync(path);
    // It is no use of the object: garbage collection counts that by the time.
    expect([mode & 0o7777, mtimeMs]).toEqual([0o555, 1_000_000]);
  });
});

function pick({ digest, chunkDigests }: { digest: string; chunkDigests: Buffer }) {
  return { digest, chunkDigests };
}
