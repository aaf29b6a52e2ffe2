import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Digest, objectPath } from '#core/digest.ts';
import { randomObject, startContentServer, type TestObject, testNode } from '../support/objectfs.ts';
import { Reader } from '../support/reader.ts';

const CHUNK = 128 * 1024;

async function setUp(objects: TestObject[], deadline: number) {
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await testNode());
  await node.store(...objects);
  const server = stack.use(await startContentServer(node.objects));
  const image = await node.image(objects);
  const mounted = await node.start({ manager: server.address, deadline });
  const reader = stack.use(new Reader());
  const rest = stack.move();
  return { node, server, image, mounted, reader, [Symbol.asyncDispose]: () => rest.disposeAsync() };
}

async function elapsed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

test('the manager goes: what is cached is read, what is not fails at the deadline; it comes back: all is read', async () => {
  const [cached, small, large, later] = [
    randomObject(5000),
    randomObject(6000),
    randomObject(4 * CHUNK),
    randomObject(7000),
  ] as const;
  await using at = await setUp([cached, small, large, later], 1_500);
  const path = (object: TestObject) => at.node.remote(at.image, object);
  await at.reader.file(path(cached));
  const fd = await at.reader.open(path(large));
  const head = await at.reader.read(fd, 0, 1000);
  await at.server.kill();
  expect((await at.reader.file(path(cached))).equals(cached.bytes)).toBe(true);
  expect((await at.reader.read(fd, 0, 1000)).equals(head)).toBe(true);
  await using other = new Reader();
  await using third = new Reader();
  const milliseconds = await elapsed(() =>
    Promise.all([
      expect(at.reader.file(path(small))).rejects.toMatchObject({ code: 'EIO' }),
      // More is read ahead, and the last page alone: the kernel asks again for either, which must not wait twice.
      ...[other, third].map(async (reader, i) => {
        const again = await reader.open(path(large));
        await expect(reader.read(again, (3 + i) * CHUNK - i, 1)).rejects.toMatchObject({ code: 'EIO' });
      }),
    ]),
  );
  expect(milliseconds).toBeGreaterThan(1_300);
  expect(milliseconds).toBeLessThan(2_800);
  const stats = await at.mounted.stats();
  expect(stats).toMatchObject({ managerAway: true, inFlight: 0 });
  expect(stats.errors).toBeGreaterThanOrEqual(2);
  // A read that is waiting when it comes back needs no second attempt by the reader.
  await at.mounted.configure({ deadline: 20_000 });
  const waiting = at.reader.file(path(later));
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  await using back = await startContentServer(at.node.objects, at.server.port);
  const wait = await elapsed(async () => expect((await waiting).equals(later.bytes)).toBe(true));
  expect(wait).toBeLessThan(4_000);
  expect((await at.reader.file(path(small))).equals(small.bytes)).toBe(true);
  expect((await at.reader.file(path(large))).equals(large.bytes)).toBe(true);
  expect((await at.mounted.stats()).managerAway).toBe(false);
  expect(back.asked.length).toBeGreaterThan(0);
});

async function damage(objects: string, digest: Digest, at: number): Promise<void> {
  const file = join(objects, objectPath(digest));
  const bytes = await readFile(file);
  bytes[at] = (bytes[at] as number) ^ 1;
  await writeFile(file, bytes);
}

test('bytes that do not match their digest are never given out nor kept, and asked for again', async () => {
  const [small, large] = [randomObject(5000), randomObject(4 * CHUNK)] as const;
  await using at = await setUp([small, large], 10_000);
  await damage(at.node.objects, small.digest, 17);
  await damage(at.node.objects, large.digest, 2 * CHUNK + 5);
  await expect(at.reader.file(at.node.remote(at.image, small))).rejects.toMatchObject({ code: 'EIO' });
  const fd = await at.reader.open(at.node.remote(at.image, large));
  expect((await at.reader.read(fd, 10, CHUNK)).equals(large.bytes.subarray(10, CHUNK + 10))).toBe(true);
  await expect(at.reader.read(fd, 2 * CHUNK, 100)).rejects.toMatchObject({ code: 'EIO' });
  expect((await at.mounted.stats()).mismatches).toBeGreaterThanOrEqual(6);
  for (const folder of ['public', `private/${at.image}`]) {
    await expect(readFile(join(at.node.root, folder, objectPath(small.digest)))).rejects.toMatchObject({
      code: 'ENOENT',
    });
  }
  const log = await readFile(join(at.node.root, 'run/objectfs.log'), 'utf8');
  expect(log).toMatch(new RegExp(`"wanted":"${small.digest}","found":"[0-9a-f]{64}"`));
  // The store is mended: the next read is right, without a restart of anything.
  await at.node.store(small, large);
  expect((await at.reader.file(at.node.remote(at.image, small))).equals(small.bytes)).toBe(true);
  expect((await at.reader.read(fd)).equals(large.bytes)).toBe(true);
});

test('an object that the manager lacks, or has too little of, fails at once', async () => {
  const [absent, cut] = [randomObject(5000), randomObject(6000)] as const;
  await using at = await setUp([cut], 30_000);
  const image = await at.node.image([absent, cut]);
  await writeFile(join(at.node.objects, objectPath(cut.digest)), cut.bytes.subarray(0, 100));
  for (const object of [absent, cut]) {
    const milliseconds = await elapsed(() =>
      expect(at.reader.file(at.node.remote(image, object))).rejects.toMatchObject({ code: 'EIO' }),
    );
    expect(milliseconds).toBeLessThan(5_000);
  }
});

test('a manager that is no manager fails at the deadline; another address takes effect without a remount', async () => {
  const object = randomObject(5000);
  await using at = await setUp([object], 1_000);
  const sockets: Socket[] = [];
  const stranger = createServer((socket) => {
    sockets.push(socket.on('error', () => {}));
    socket.end('220 mail.example ESMTP\r\n');
  });
  await using stack = new AsyncDisposableStack();
  stack.defer(() => {
    for (const socket of sockets) socket.destroy();
    stranger.close();
  });
  await new Promise<void>((resolve) => stranger.listen(0, '127.0.0.1', resolve));
  const { port } = stranger.address() as { port: number };
  await at.mounted.configure({ manager: `127.0.0.1:${port}` });
  await expect(at.reader.file(at.node.remote(at.image, object))).rejects.toMatchObject({ code: 'EIO' });
  // A silent one, too, and a name that does not exist; a waiting read goes on with the new address.
  await at.mounted.configure({ manager: 'no-such-host.invalid:2019', deadline: 20_000 });
  const waiting = at.reader.file(at.node.remote(at.image, object));
  await new Promise((resolve) => setTimeout(resolve, 500));
  await at.mounted.configure({ manager: at.server.address });
  expect((await waiting).equals(object.bytes)).toBe(true);
  await expect(at.mounted.configure({ manager: 'nonsense' })).rejects.toMatchObject({ code: 'invalid-argument' });
  expect((await at.mounted.stats()).settings.manager).toBe(at.server.address);
});

test('an index that lies about chunks poisons nobody', async () => {
  const truth = randomObject(3 * CHUNK);
  const lie = randomObject(3 * CHUNK);
  await using at = await setUp([truth], 10_000);
  // The liar's image lists the chunks of `lie` under the digest of `truth`, and a store that is in league with it serves them.
  const liar = await at.node.image([{ ...truth, facts: lie.facts }]);
  await writeFile(join(at.node.objects, objectPath(truth.digest)), lie.bytes);
  expect((await at.reader.file(at.node.remote(liar, truth))).equals(lie.bytes)).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 300));
  for (const folder of ['public', `private/${liar}`]) {
    await expect(readFile(join(at.node.root, folder, objectPath(truth.digest)))).rejects.toMatchObject({
      code: 'ENOENT',
    });
  }
  await at.node.store(truth);
  expect((await at.reader.file(at.node.remote(at.image, truth))).equals(truth.bytes)).toBe(true);
});
