import { randomBytes } from 'node:crypto';
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Digest, digestOf, digestToBytes } from '#core/digest.ts';
import { silentLogger } from '#core/log.ts';
import type { RemoteReader } from './fetcher.ts';
import { CacheLayout } from './layout.ts';
import type { WantedObject } from './object.ts';
import { ObjectCache } from './object-cache.ts';
import { recoverCaches } from './recover.ts';

const CHUNK = 1000;
const image = digestOf(Buffer.from('an image'));
const signal = new AbortController().signal;

class Store implements RemoteReader {
  readonly name = 'store';
  readonly contents = new Map<Digest, Buffer>();
  readonly asked: [offset: number, length: number][] = [];
  damage: ((bytes: Buffer) => void) | undefined;
  wait = 0;

  add(bytes: Buffer): WantedObject {
    const digest = digestOf(bytes);
    this.contents.set(digest, bytes);
    const chunks: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += CHUNK)
      chunks.push(digestToBytes(digestOf(bytes.subarray(at, at + CHUNK))));
    const chunkDigests = bytes.length > CHUNK ? Buffer.concat(chunks) : Buffer.alloc(0);
    return { digest, size: bytes.length, chunkSize: CHUNK, chunkDigests };
  }

  async read(digest: Digest, offset: number, length: number): Promise<Buffer> {
    this.asked.push([offset, length]);
    if (this.wait > 0) await new Promise((resolve) => setTimeout(resolve, this.wait));
    const bytes = Buffer.from(this.contents.get(digest)?.subarray(offset, offset + length) ?? '');
    this.damage?.(bytes);
    return bytes;
  }
}

async function setUp() {
  const root = await mkdtemp(join(tmpdir(), 'gear-oc-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const layout = new CacheLayout(root);
  await recoverCaches(layout, silentLogger());
  await mkdir(join(layout.paths.images, image), { recursive: true });
  const store = new Store();
  const open = () => new ObjectCache({ layout, remote: store, log: silentLogger(), cacheSize: 0 });
  const cache = open();
  /** As one buffer. */
  const read = async (object: WantedObject, offset: number, size: number, options = { signal }, from = cache) => {
    const { pieces, fetched } = await from.read(image, object, offset, size, options);
    return { bytes: Buffer.concat(pieces), fetched };
  };
  return { layout, store, open, cache, read };
}

test('chunks that lie together are fetched together, each once, and the last one makes an ordinary object', async () => {
  const at = await setUp();
  const { layout, store, cache } = at;
  const bytes = randomBytes(9_500);
  const object = store.add(bytes);
  const read = async (offset: number, size: number) => await at.read(object, offset, size);
  expect(await read(3_500, 1_000)).toEqual({ bytes: bytes.subarray(3_500, 4_500), fetched: 2_000 });
  expect(await read(3_000, 2_000)).toEqual({ bytes: bytes.subarray(3_000, 5_000), fetched: 0 });
  expect(store.asked).toEqual([[3_000, 2_000]]);
  expect((await read(0, 9_000)).bytes).toEqual(bytes.subarray(0, 9_000));
  expect(store.asked.slice(1)).toEqual([
    [0, 3_000],
    [5_000, 4_000],
  ]);
  expect((await lstat(layout.paths.public)).isDirectory()).toBe(true);
  expect(cache.isPinned(image, object)).toBe(false);
  expect((await read(9_400, 4_096)).bytes).toEqual(bytes.subarray(9_400));
  await expect.poll(() => cache.isPinned(image, object)).toBe(true);
  expect(await readFile(layout.publicFile(object.digest))).toEqual(bytes);
  expect(await readdir(layout.partial)).toEqual([]);
  expect((await read(100, 300)).bytes).toEqual(bytes.subarray(100, 400));
  expect(store.asked).toHaveLength(4);
  expect((await read(20_000, 10)).bytes).toHaveLength(0);
});

test('readers of overlapping ranges at the same time fetch no chunk twice', async () => {
  const { store, read } = await setUp();
  store.wait = 10;
  const bytes = randomBytes(20_000);
  const object = store.add(bytes);
  const reads = Array.from({ length: 30 }, async (_, i) => {
    const offset = (i * 613) % 18_000;
    const { bytes: found } = await read(object, offset, 2_000);
    expect(found).toEqual(bytes.subarray(offset, offset + 2_000));
  });
  await Promise.all(reads);
  expect(store.asked.reduce((sum, [, length]) => sum + length, 0)).toBe(20_000);
});

test('a reader that gives up does not take the bytes away from another', async () => {
  const { store, read } = await setUp();
  store.wait = 30;
  const object = store.add(randomBytes(5_000));
  const impatient = new AbortController();
  const first = read(object, 0, 5_000, { signal: impatient.signal });
  const second = read(object, 0, 5_000);
  impatient.abort(new Error('enough'));
  await expect(first).rejects.toThrow('enough');
  expect((await second).bytes).toHaveLength(5_000);
  expect(store.asked).toHaveLength(1);
});

test('what an earlier process left is verified again before it is used', async () => {
  const { layout, store, cache, read, open } = await setUp();
  const bytes = randomBytes(5_000);
  const object = store.add(bytes);
  await read(object, 0, 3_000);
  await cache.close();
  // A power cut: the map says that chunk 1 is there, and its bytes never came to the disk.
  const [data] = (await readdir(layout.partial)).filter((name) => name.endsWith('.data'));
  const file = join(layout.partial, data as string);
  const torn = await readFile(file);
  torn.fill(0, 1_000, 2_000);
  await writeFile(file, torn);
  store.asked.length = 0;
  const later = open();
  expect((await read(object, 500, 2_000, { signal }, later)).bytes).toEqual(bytes.subarray(500, 2_500));
  expect(store.asked).toEqual([[1_000, 1_000]]);
});

test('wrong bytes are asked for again and never kept', async () => {
  const { layout, store, cache, read } = await setUp();
  const [small, large] = [store.add(randomBytes(800)), store.add(randomBytes(3_000))] as const;
  let wrong = 1;
  store.damage = (bytes) => {
    if (wrong-- > 0) bytes[5] = (bytes[5] as number) ^ 1;
  };
  await cache.whole(image, small, { signal });
  expect(cache.fetcher.mismatches).toBe(1);
  wrong = 1000;
  await expect(read(large, 0, 10)).rejects.toMatchObject({ code: 'corrupt' });
  wrong = 0;
  expect((await read(large, 0, 10)).bytes).toEqual(store.contents.get(large.digest)?.subarray(0, 10));
  expect(await readFile(layout.publicFile(small.digest))).toEqual(store.contents.get(small.digest));
});

test('chunks of a list that lies are for those who have that list, and never become the object', async () => {
  const { layout, store, cache, read } = await setUp();
  const truth = randomBytes(3_000);
  const object = store.add(truth);
  const lie = randomBytes(3_000);
  const lying = { ...object, chunkDigests: store.add(lie).chunkDigests };
  store.contents.set(object.digest, lie);
  expect((await read(lying, 0, 3_000)).bytes).toEqual(lie);
  expect((await read(lying, 0, 3_000)).bytes).toEqual(lie);
  await expect(cache.whole(image, lying, { signal })).rejects.toThrow('does not match its digest');
  expect(cache.isHere(image, object)).toBe(false);
  store.contents.set(object.digest, truth);
  const other = digestOf(Buffer.from('another image'));
  await mkdir(join(layout.paths.images, other), { recursive: true });
  await cache.whole(other, object, { signal });
  expect(await readFile(layout.privateFile(other, object.digest))).toEqual(truth);
});

test('nothing is pinned for an image that is gone', async () => {
  const { layout, store, cache } = await setUp();
  const object = store.add(randomBytes(500));
  await rm(join(layout.paths.images, image), { recursive: true });
  await expect(cache.whole(image, object, { signal })).rejects.toMatchObject({ code: 'not-found' });
  expect(await readdir(layout.paths.private)).toEqual([]);
});
