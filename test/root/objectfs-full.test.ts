import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { objectPath } from '#core/digest.ts';
import { mount, unmount } from '../../driver/kernel/mount.ts';
import { randomObject, startContentServer, type TestObject, testNode } from '../support/objectfs.ts';
import { Reader } from '../support/reader.ts';

const MIB = 1024 * 1024;

/** A filesystem of so many bytes. */
async function smallDisk(bytes: number) {
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp('/tmp/gear-disk-');
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  await mount({ type: 'tmpfs', source: 'tmpfs', target: folder, options: [`size=${bytes}`, 'mode=700'] });
  stack.defer(() => unmount(folder, { detach: true }));
  const rest = stack.move();
  return { folder, [Symbol.asyncDispose]: () => rest.disposeAsync() };
}

test('a full disk: readers get ENOSPC while everything is in use, and their bytes once something is not', async () => {
  await using disk = await smallDisk(10 * MIB);
  await using node = await testNode(disk.folder);
  // Small ones (one chunk of a large chunk size) and a large one.
  const chunkSize = 4 * MIB;
  const [first, second, small] = [3, 4, 3].map((size) => randomObject(size * MIB, chunkSize)) as [
    TestObject,
    TestObject,
    TestObject,
  ];
  const large = randomObject(5 * MIB);
  await node.store(first, second, small, large);
  await using server = await startContentServer(node.objects);
  const image = await node.image([first, second], chunkSize);
  const other = await node.image([small], chunkSize);
  const third = await node.image([large]);
  const mounted = await node.start({ manager: server.address, deadline: 10_000 });
  await using reader = new Reader();
  for (const object of [first, second])
    expect((await reader.file(node.remote(image, object))).equals(object.bytes)).toBe(true);
  await expect(reader.file(node.remote(other, small))).rejects.toMatchObject({ code: 'ENOSPC' });
  await expect(reader.file(node.remote(third, large))).rejects.toMatchObject({ code: 'ENOSPC' });
  // Nothing half-made stays, and what was there still is.
  expect((await readdir(join(node.root, 'partial'))).filter((name) => name.startsWith('.tmp-'))).toEqual([]);
  await expect(stat(join(node.root, 'public', objectPath(small.digest)))).rejects.toMatchObject({ code: 'ENOENT' });
  expect((await reader.file(node.remote(image, first))).equals(first.bytes)).toBe(true);
  expect((await mounted.stats()).errors).toBeGreaterThanOrEqual(2);
  // The image goes; its objects make room.
  await rm(join(node.root, 'images', image), { recursive: true });
  await rm(join(node.root, 'private', image), { recursive: true });
  expect((await reader.file(node.remote(third, large))).equals(large.bytes)).toBe(true);
  expect((await reader.file(node.remote(other, small))).equals(small.bytes)).toBe(true);
  expect((await mounted.stats()).evictedObjects).toBeGreaterThanOrEqual(1);
});

test('beyond its cap the cache gives up what no image uses, the least recently used first, and nothing else', async () => {
  await using node = await testNode();
  const old = Array.from({ length: 8 }, () => randomObject(100_000));
  const young = Array.from({ length: 8 }, () => randomObject(100_000));
  await node.store(...old, ...young);
  await using server = await startContentServer(node.objects);
  const gone = await node.image(old);
  const staying = await node.image([...young, old[7] as (typeof old)[0]]);
  const mounted = await node.start({ manager: server.address, deadline: 10_000, cacheSize: 1_000_000 });
  await using reader = new Reader();
  for (const object of old) await reader.file(node.remote(gone, object));
  await reader.file(node.remote(staying, old[7] as (typeof old)[0]));
  await rm(join(node.root, 'images', gone), { recursive: true });
  await rm(join(node.root, 'private', gone), { recursive: true });
  for (const object of young) await reader.file(node.remote(staying, object));
  await expect.poll(async () => (await mounted.stats()).evictedObjects, { timeout: 5_000 }).toBeGreaterThanOrEqual(6);
  await server.kill();
  // What an image uses stays, however large that makes the cache.
  await mounted.configure({ cacheSize: 1 });
  await expect.poll(async () => (await mounted.stats()).cacheBytes, { timeout: 5_000 }).toBe(900_000);
  for (const object of [...young, old[7] as (typeof old)[0]]) {
    expect((await reader.file(node.remote(staying, object))).equals(object.bytes)).toBe(true);
  }
});
