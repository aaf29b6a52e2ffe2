import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { until } from '#core/abort.ts';
import { type Digest, digestOf, digestToBytes, ociDigest } from '#core/digest.ts';
import { connect } from '#core/grpc/client.ts';
import { ObjectTable, writeObjectTable } from '#core/index/object-table.ts';
import { DEFAULT_CHUNK_SIZE } from '#core/index/tree.ts';
import { silentLogger } from '#core/log.ts';
import { MonitorService } from '#proto/gen/gear/v1/monitor.ts';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { CacheLayout } from '../../driver/cache/layout.ts';
import type { WantedObject } from '../../driver/cache/object.ts';
import { ObjectCache } from '../../driver/cache/object-cache.ts';
import { recoverCaches } from '../../driver/cache/recover.ts';
import type { PrefetchImage } from '../../driver/prefetch/prefetch-image.ts';
import { Prefetcher } from '../../driver/prefetch/prefetcher.ts';
import { managerSource } from '../../driver/remote/manager-source.ts';
import { PatientSource } from '../../driver/remote/patient-source.ts';
import { startTestManager, upload, uploadOf } from '../../manager/testing.ts';
import { type TestObject, testObject } from '../support/objectfs.ts';

const timeout = 20_000;
const signal = AbortSignal.timeout(60_000);

/** A node's caches and prefetcher over a manager, both of this process, and images of the manager's objects. */
async function setUp() {
  const stack = new AsyncDisposableStack();
  onTestFinished(() => stack.disposeAsync());
  const { path: root } = stack.use(await temporaryFolder());
  const at = stack.use(await startTestManager());
  const monitor = stack.use(connect(at.manager.addresses.monitor));
  const layout = new CacheLayout(root);
  const log = silentLogger();
  await recoverCaches(layout, log);
  const source = stack.use(managerSource(at.manager.addresses.grpc, 'grpc', log));
  const cache = new ObjectCache({ layout, remote: new PatientSource(source, { log }), log, cacheSize: 0 });
  const images = new Map<Digest, PrefetchImage>();
  const prefetcher = new Prefetcher({
    cache,
    layout,
    log,
    manager: at.manager.addresses.grpc,
    find: (image) => images.get(image),
    audit: () => 0,
  });
  stack.defer(() => prefetcher.stop());
  let slot = 0;
  const image = async (objects: readonly TestObject[], touched: readonly TestObject[] = objects) => {
    const facts = new Map(objects.map(({ digest, facts: found }) => [digest, found]));
    const table = new ObjectTable(writeObjectTable(facts, { slot: ++slot, chunkSize: DEFAULT_CHUNK_SIZE }), 'table');
    const id = digestOf(randomBytes(8));
    await mkdir(join(layout.paths.images, id), { recursive: true });
    const object = (row: number): WantedObject => ({ ...table.row(row), chunkSize: table.chunkSize });
    const known = { image: id, table, object };
    images.set(id, known);
    const touches = touched.flatMap(({ digest, bytes }) =>
      Array.from({ length: Math.ceil(bytes.length / DEFAULT_CHUNK_SIZE) }, (_, chunk) => ({
        digest: digestToBytes(digest),
        chunk,
        milliseconds: 0,
      })),
    );
    const report = {
      node: 'n',
      image: ociDigest(id),
      chunkSize: DEFAULT_CHUNK_SIZE,
      touches,
      first: true,
      complete: true,
    };
    await monitor.unary(MonitorService.reportTouches, report, { timeout });
    return { id, known, wanted: ({ digest }: TestObject) => object(table.find(digest) ?? -1) };
  };
  const ended = async (id: Digest) =>
    await until('the end of the prefetch', () => (prefetcher.of(id)?.ended === true ? prefetcher.of(id) : undefined), {
      timeout,
    });
  const store = async (...objects: TestObject[]) => {
    await upload(at.connection, uploadOf(objects.map(({ bytes }) => bytes)));
  };
  return { at, cache, prefetcher, image, images, ended, store };
}

const objectOf = (size: number): TestObject => testObject(randomBytes(size));

test('small objects come whole, large ones by chunks, and both as if the image had touched them', async () => {
  const { cache, prefetcher, image, ended, store } = await setUp();
  const [small, large, other] = [objectOf(5_000), objectOf(400_000), objectOf(9_000)];
  await store(small, large, other);
  const { id, wanted } = await image([small, large, other], [small, large]);
  prefetcher.request(id);
  expect(await ended(id)).toMatchObject({ planned: 5, chunks: 5, bytes: 405_000, lacking: 0, problem: undefined });
  expect([small, large, other].map((object) => cache.isPinned(id, wanted(object)))).toEqual([true, true, false]);
  const { pieces, fetched } = await cache.read(id, wanted(large), 130_000, 9_000, { signal });
  expect(Buffer.concat(pieces)).toEqual(large.bytes.subarray(130_000, 139_000));
  expect([fetched, cache.fetcher.fetches]).toEqual([0, 0]);
});

test('readers join what is under way; each byte comes once', async () => {
  const { cache, prefetcher, image, ended, store } = await setUp();
  const objects = Array.from({ length: 60 }, () => objectOf(100_000));
  await store(...objects);
  const { id, wanted } = await image(objects);
  prefetcher.request(id);
  await until('the plan', () => prefetcher.of(id)?.planned !== undefined, { interval: 1 });
  await Promise.all(objects.map((object) => cache.whole(id, wanted(object), { signal })));
  expect(await ended(id)).toMatchObject({ planned: 60, chunks: 60 });
  expect(cache.fetcher.joined).toBeGreaterThan(0);
  // Those that were too far away were asked for alone.
  expect(cache.fetcher.fetchedObjects + cache.fetcher.joined).toBeLessThanOrEqual(60);
  for (const object of objects) expect(cache.isPinned(id, wanted(object))).toBe(true);
});

test('wrong bytes and objects that are gone are left out, and what is no part of the image is not taken', async () => {
  const { at, cache, prefetcher, image, ended, store } = await setUp();
  const [good, wrong, gone, foreign] = [objectOf(5_000), objectOf(6_000), objectOf(7_000), objectOf(8_000)];
  await store(good, wrong, gone, foreign);
  const { id, wanted } = await image([good, wrong, gone], [wrong, foreign, gone, good]);
  const { layout } = at.manager.store;
  await rm(layout.object(wrong.digest));
  await writeFile(layout.object(wrong.digest), randomBytes(6_000));
  await rm(layout.object(gone.digest));
  prefetcher.request(id);
  expect(await ended(id)).toMatchObject({ planned: 3, chunks: 1, lacking: 2 });
  expect([good, wrong, gone].map((object) => cache.isHere(id, wanted(object)))).toEqual([true, false, false]);
});

test('an image that is still being made is prefetched, and not again when it is there', async () => {
  const { cache, prefetcher, image, images, ended, store } = await setUp();
  const objects = [objectOf(5_000), objectOf(400_000)];
  await store(...objects);
  const { id, known, wanted } = await image(objects);
  images.delete(id);
  prefetcher.request(id, known);
  await until('the plan', () => prefetcher.of(id)?.planned !== undefined, { interval: 1 });
  prefetcher.tidy();
  images.set(id, known);
  prefetcher.request(id);
  expect(await ended(id)).toMatchObject({ planned: 5, chunks: 5, lacking: 0 });
  for (const object of objects) expect(cache.isPinned(id, wanted(object))).toBe(true);
  prefetcher.request(id);
  expect(prefetcher.running).toEqual([]);
});

test('without a profile, and without a manager, nothing happens', async () => {
  const { at, prefetcher, image, ended } = await setUp();
  const nobody = digestOf(Buffer.from('nobody has this'));
  prefetcher.request(nobody);
  await until('the end', () => !prefetcher.running.includes(nobody), { interval: 1 });
  expect(prefetcher.of(nobody)).toBeUndefined();
  const { id } = await image([objectOf(10)], []);
  await at.manager[Symbol.asyncDispose]();
  prefetcher.request(id);
  expect((await ended(id))?.problem).toBeDefined();
});

test('the image that was asked for last goes first', async () => {
  const { prefetcher, image, ended, store } = await setUp();
  const big = Array.from({ length: 40 }, () => objectOf(1_000_000));
  const quick = Array.from({ length: 5 }, () => objectOf(50_000));
  await store(...big, ...quick);
  const first = await image(big);
  const second = await image(quick);
  prefetcher.request(first.id);
  await until('its plan', () => prefetcher.of(first.id)?.planned !== undefined, { interval: 1 });
  prefetcher.request(second.id);
  await ended(second.id);
  expect(prefetcher.of(first.id)?.ended).toBe(false);
  expect(await ended(first.id)).toMatchObject({ chunks: 320 });
});
