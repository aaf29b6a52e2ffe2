import { execFile, spawn } from 'node:child_process';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { objectPath } from '#core/digest.ts';
import { processId } from '../../driver/objectfs/processes.ts';
import { randomObject, startContentServer, type TestObject, testNode, testObject } from '../support/objectfs.ts';
import { Reader } from '../support/reader.ts';

const run = promisify(execFile);
const CHUNK = 128 * 1024;

async function setUp(objects: TestObject[]) {
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await testNode());
  await node.store(...objects);
  const server = stack.use(await startContentServer(node.objects));
  const image = await node.image(objects);
  const mounted = await node.start({ manager: server.address, deadline: 10_000 });
  const reader = stack.use(new Reader());
  const rest = stack.move();
  return { node, server, image, mounted, reader, [Symbol.asyncDispose]: () => rest.disposeAsync() };
}

test('small and large objects are read right, each byte fetched once', async () => {
  const objects = [1, 4095, 4096, 70_000, CHUNK, CHUNK + 1, 5 * CHUNK - 3, 3_000_000].map((size) => randomObject(size));
  await using at = await setUp(objects);
  for (let round = 0; round < 2; round++) {
    for (const object of objects) {
      expect((await at.reader.file(at.node.remote(at.image, object))).equals(object.bytes)).toBe(true);
    }
  }
  const stats = await at.mounted.stats();
  const total = objects.reduce((sum, { bytes }) => sum + bytes.length, 0);
  expect(stats).toMatchObject({ fetchedBytes: total, errors: 0, mismatches: 0, inFlight: 0, passthrough: true });
  expect(stats.images).toMatchObject([
    { image: at.image, touchedObjects: 8, touchedBytes: total, fromRemote: 8, fromPublic: 0, fetchedBytes: total },
  ]);
  // Whatever is whole is an ordinary object now, read-only, pinned by its image.
  for (const { digest, bytes } of objects) {
    const facts = await stat(join(at.node.root, 'private', at.image, objectPath(digest)));
    expect([facts.nlink, facts.size, facts.mode & 0o7777]).toEqual([2, bytes.length, 0o444]);
  }
});

test('ranges at odd offsets of a large object fetch the chunks they need and no others', async () => {
  const big = randomObject(100 * CHUNK + 77);
  await using at = await setUp([big]);
  const fd = await at.reader.open(at.node.remote(at.image, big));
  const ranges = [
    [50 * CHUNK - 3, 7],
    [0, 1],
    [100 * CHUNK + 76, 50],
    [99 * CHUNK - 1, CHUNK + 2],
    [33_333, 222_222],
  ] as const;
  for (const [offset, length] of ranges) {
    expect((await at.reader.read(fd, offset, length)).equals(big.bytes.subarray(offset, offset + length))).toBe(true);
  }
  const { fetchedBytes } = await at.mounted.stats();
  expect(fetchedBytes).toBeLessThan(20 * CHUNK);
  expect(at.server.asked.length).toBeGreaterThan(0);
  for (const line of at.server.asked) expect(Number(line.split(' ')[1]) % CHUNK).toBe(0);
  expect(await at.reader.read(fd, 200 * CHUNK, 10)).toHaveLength(0);
  // The rest, and then all of it from the public cache.
  expect((await at.reader.read(fd)).equals(big.bytes)).toBe(true);
  expect((await at.mounted.stats()).fetchedBytes).toBe(big.bytes.length);
  await at.reader.close(fd);
});

test('many readers of the same bytes cause one fetch', async () => {
  const small = randomObject(10_000);
  const big = randomObject(8 * CHUNK);
  await using at = await setUp([small, big]);
  at.server.delay(150);
  await using stack = new AsyncDisposableStack();
  const readers = Array.from({ length: 6 }, () => stack.use(new Reader()));
  for (const object of [small, big]) {
    const path = at.node.remote(at.image, object);
    const contents = await Promise.all(readers.map((reader) => reader.file(path)));
    for (const bytes of contents) expect(bytes.equals(object.bytes)).toBe(true);
  }
  expect((await at.mounted.stats()).fetchedBytes).toBe(small.bytes.length + big.bytes.length);
  expect(new Set(at.server.asked).size).toBe(at.server.asked.length);
});

test('a program is executed from it: its pages are mapped', async () => {
  const program = testObject(await readFile('/bin/ls'));
  await using at = await setUp([program]);
  // The mount itself shows 0444; overlay brings the index's modes. The loader maps it all the same.
  const { stdout } = await run('/lib64/ld-linux-x86-64.so.2', [at.node.remote(at.image, program), '-d', '/'], {
    timeout: 20_000,
  });
  expect(stdout).toBe('/\n');
});

test('an image sees its own objects and nothing else', async () => {
  const [mine, shared, theirs] = [randomObject(3000), randomObject(4000), randomObject(5000)] as const;
  await using at = await setUp([mine, shared]);
  await at.node.store(theirs);
  const other = await at.node.image([shared, theirs]);
  expect((await at.reader.file(at.node.remote(other, theirs))).equals(theirs.bytes)).toBe(true);
  await expect(at.reader.open(at.node.remote(at.image, theirs))).rejects.toMatchObject({ code: 'ENOENT' });
  expect(await at.reader.list(join(at.node.root, 'remote'))).toEqual([at.image, other].sort());
  const seen: string[] = [];
  for (const prefix of await at.reader.list(join(at.node.root, 'remote', at.image))) {
    for (const rest of await at.reader.list(join(at.node.root, 'remote', at.image, prefix))) seen.push(prefix + rest);
  }
  expect(seen).toEqual([mine.digest, shared.digest].sort());
  // What one image fetched, another gets without the remote.
  await at.reader.file(at.node.remote(at.image, shared));
  await at.server.kill();
  expect((await at.reader.file(at.node.remote(other, shared))).equals(shared.bytes)).toBe(true);
  const stats = await at.mounted.stats();
  expect(stats.images.find(({ image }) => image === other)).toMatchObject({ fromPublic: 1, fromRemote: 1 });
});

test('names that are not there, writing, and what df and ls show', async () => {
  const object = randomObject(200_000);
  await using at = await setUp([object]);
  const remote = join(at.node.root, 'remote');
  for (const path of [
    'nothing',
    'f'.repeat(64),
    `${at.image}/zz`,
    `${at.image}/${object.digest.slice(0, 2)}/${'0'.repeat(62)}`,
  ]) {
    await expect(at.reader.open(join(remote, path))).rejects.toMatchObject({ code: 'ENOENT' });
  }
  const path = at.node.remote(at.image, object);
  await expect(run('cp', ['/etc/hostname', path], { timeout: 10_000 })).rejects.toThrow(/Read-only/);
  await expect(run('touch', [join(remote, 'x')], { timeout: 10_000 })).rejects.toThrow(/Read-only/);
  const { stdout } = await run('stat', ['-c', '%s %a %u %F', path], { timeout: 10_000 });
  expect(stdout.trim()).toBe('200000 444 0 regular file');
  expect((await at.mounted.stats()).fetchedBytes).toBe(0);
  const { stdout: df } = await run('df', ['--output=size', remote, at.node.root], { timeout: 10_000 });
  const [, ofMount, ofRoot] = df.trim().split('\n');
  expect(ofMount?.trim()).toBe(ofRoot?.trim());
});

test('an image appears and disappears with its table', async () => {
  const object = randomObject(100);
  await using at = await setUp([object]);
  const later = randomObject(300);
  await at.node.store(later);
  const image = await at.node.image([later]);
  expect((await at.reader.file(at.node.remote(image, later))).equals(later.bytes)).toBe(true);
  await run('rm', ['-r', join(at.node.root, 'images', image), join(at.node.root, 'private', image)]);
  await expect
    .poll(() => at.reader.file(at.node.remote(image, later)).catch((error: { code: string }) => error.code), {
      timeout: 10_000,
    })
    .toBe('ENOENT');
  expect((await at.mounted.stats()).images.map((entry) => entry.image)).not.toContain(image);
});

test('a second start adopts what runs, with the new settings; stop leaves nothing', async () => {
  const object = randomObject(100);
  await using at = await setUp([object]);
  const first = await at.mounted.stats();
  const again = await at.node.start({ manager: at.server.address, deadline: 4321 });
  expect([at.mounted.adopted, again.adopted]).toEqual([false, true]);
  expect(await again.stats()).toMatchObject({
    server: first.server,
    supervisor: first.supervisor,
    settings: { deadline: 4321 },
  });
  await again.stop();
  expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain(at.node.root);
  for (const pid of [first.server, first.supervisor]) await expect.poll(() => processId(pid)).toBeUndefined();
  // And a new one starts in the same place.
  const third = await at.node.start({ manager: at.server.address });
  expect(third.adopted).toBe(false);
  expect((await at.reader.file(at.node.remote(at.image, object))).equals(object.bytes)).toBe(true);
});

test('stop ends it also where another mount namespace has a copy of the mount', async () => {
  const object = randomObject(100);
  await using at = await setUp([object]);
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sleep', '60'], { stdio: 'ignore' });
  onTestFinished(() => void holder.kill('SIGKILL'));
  const copied = async () =>
    (await readFile(`/proc/${holder.pid}/mountinfo`, 'utf8').catch(() => '')).includes(at.node.root);
  const name = async () => await readFile(`/proc/${holder.pid}/comm`, 'utf8').catch(() => '');
  await expect.poll(name).toBe('sleep\n');
  expect(await copied()).toBe(true);
  const { server, supervisor } = await at.mounted.stats();
  await at.mounted.stop();
  for (const pid of [server, supervisor]) await expect.poll(() => processId(pid)).toBeUndefined();
  expect(await copied()).toBe(true);
});

test('a dead one is replaced', async () => {
  const object = randomObject(100);
  await using at = await setUp([object]);
  const { server, supervisor } = await at.mounted.stats();
  process.kill(supervisor, 'SIGSTOP');
  process.kill(server, 'SIGKILL');
  process.kill(supervisor, 'SIGKILL');
  await writeFile(join(at.node.root, 'partial', '.tmp-left'), 'x');
  const again = await at.node.start({ manager: at.server.address });
  expect(again.adopted).toBe(false);
  expect((await at.reader.file(at.node.remote(at.image, object))).equals(object.bytes)).toBe(true);
  await expect(stat(join(at.node.root, 'partial', '.tmp-left'))).rejects.toMatchObject({ code: 'ENOENT' });
});
