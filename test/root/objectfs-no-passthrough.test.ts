import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { objectPath } from '#core/digest.ts';
import { unmount } from '../../driver/kernel/mount.ts';
import { mountOverlay } from '../../driver/kernel/overlay.ts';
import { randomObject, startContentServer, testNode } from '../support/objectfs.ts';
import { Reader } from '../support/reader.ts';

const CHUNK = 128 * 1024;

/** A folder on an overlay: the kernel refuses to read past us into a filesystem that is itself stacked. */
async function stackedFolder() {
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp('/tmp/gear-stk-');
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const [lower, upper, work, merged] = ['l', 'u', 'w', 'm'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
    string,
  ];
  for (const path of [lower, upper, work, merged]) await mkdir(path);
  await mountOverlay(merged, { lower: [lower], upper, work });
  stack.defer(() => unmount(merged, { detach: true }));
  const rest = stack.move();
  return { path: merged, [Symbol.asyncDispose]: () => rest.disposeAsync() };
}

test('where the kernel cannot read past us everything is read through us, with the same answers', async () => {
  await using stacked = await stackedFolder();
  await using node = await testNode(stacked.path);
  const objects = [5, 60_000, CHUNK, 4 * CHUNK + 3].map((size) => randomObject(size));
  await node.store(...objects);
  await using server = await startContentServer(node.objects);
  const image = await node.image(objects);
  const mounted = await node.start({ manager: server.address, deadline: 10_000 });
  await using reader = new Reader();
  const fd = await reader.open(node.remote(image, objects[1] as (typeof objects)[0]));
  for (let round = 0; round < 2; round++) {
    for (const object of objects)
      expect((await reader.file(node.remote(image, object))).equals(object.bytes)).toBe(true);
  }
  const before = await mounted.stats();
  const total = objects.reduce((sum, { bytes }) => sum + bytes.length, 0);
  expect(before).toMatchObject({ passthrough: false, openPassthrough: 0, fetchedBytes: total, errors: 0 });
  for (const { digest, bytes } of objects) {
    expect((await readFile(join(node.root, 'private', image, objectPath(digest)))).equals(bytes)).toBe(true);
  }
  // A new server has to keep to it.
  process.kill(before.server, 'SIGKILL');
  await expect.poll(async () => (await mounted.stats()).server, { timeout: 10_000 }).not.toBe(before.server);
  expect((await reader.read(fd, 100, 1000)).equals((objects[1] as (typeof objects)[0]).bytes.subarray(100, 1100))).toBe(
    true,
  );
  for (const object of objects) expect((await reader.file(node.remote(image, object))).equals(object.bytes)).toBe(true);
  expect(await mounted.stats()).toMatchObject({ passthrough: false, fetchedBytes: 0 });
});
