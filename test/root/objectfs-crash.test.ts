import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { ObjectFilesystem } from '../../driver/objectfs/interface.ts';
import { processId } from '../../driver/objectfs/processes.ts';
import { objectfsFiles } from '../../driver/objectfs/session.ts';
import { nodePaths } from '../../driver/paths.ts';
import { randomObject, startContentServer, type TestObject, testNode } from '../support/objectfs.ts';
import { Reader } from '../support/reader.ts';

const CHUNK = 128 * 1024;

async function setUp(objects: TestObject[]) {
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await testNode());
  await node.store(...objects);
  const server = stack.use(await startContentServer(node.objects));
  const image = await node.image(objects);
  const mounted = await node.start({ manager: server.address, deadline: 20_000 });
  const reader = stack.use(new Reader());
  const rest = stack.move();
  return { node, server, image, mounted, reader, [Symbol.asyncDispose]: () => rest.disposeAsync() };
}

/** Kills one of the two processes and waits until another one has its place. */
async function killAndWait(mounted: ObjectFilesystem, role: 'server' | 'supervisor'): Promise<void> {
  const before = (await mounted.stats())[role];
  process.kill(before, 'SIGKILL');
  await expect.poll(async () => (await mounted.stats())[role], { timeout: 15_000 }).not.toBe(before);
}

test('a server that is killed again and again while files are read costs no byte, no error and no hang', async () => {
  const objects = Array.from({ length: 400 }, (_, i) => randomObject(i % 20 === 0 ? 4 * CHUNK + i : 500 + i * 10));
  await using at = await setUp(objects);
  at.server.delay(2);
  await using other = new Reader();
  let done = false;
  const readAll = async (reader: Reader, order: TestObject[]) => {
    for (const object of order) {
      const bytes = await reader.file(at.node.remote(at.image, object));
      expect(bytes.equals(object.bytes)).toBe(true);
    }
  };
  let kills = 0;
  const killing = (async () => {
    while (!done && kills < 6) {
      await sleep(150);
      try {
        process.kill((await at.mounted.stats()).server, 'SIGKILL');
        kills++;
      } catch {
        // It was just killed.
      }
    }
  })();
  await Promise.all([readAll(at.reader, objects), readAll(other, objects.toReversed())]);
  done = true;
  await killing;
  expect(kills).toBeGreaterThan(2);
  await expect.poll(async () => (await at.mounted.stats()).inFlight, { timeout: 5_000 }).toBe(0);
  await expect.poll(async () => (await at.mounted.stats()).openPassthrough, { timeout: 5_000 }).toBe(0);
});

test('a read that waits for its bytes survives the death of the server, and of the supervisor', async () => {
  const [first, second, big] = [randomObject(5000), randomObject(6000), randomObject(3 * CHUNK)] as const;
  await using at = await setUp([first, second, big]);
  at.server.delay(1_500);
  const reads = [first, big].map((object) => at.node.remote(at.image, object));
  await using other = new Reader();
  const waiting = Promise.all([at.reader.file(reads[0] as string), other.file(reads[1] as string)]);
  await sleep(300);
  await killAndWait(at.mounted, 'server');
  const [small, large] = await waiting;
  expect(small.equals(first.bytes) && large.equals(big.bytes)).toBe(true);
  const again = at.reader.file(at.node.remote(at.image, second));
  await sleep(300);
  await killAndWait(at.mounted, 'supervisor');
  expect((await again).equals(second.bytes)).toBe(true);
});

test('an open that nobody was there to take reaches the next server once, and succeeds', async () => {
  const object = randomObject(5000);
  await using at = await setUp([object]);
  await at.mounted.configure({ logLevel: 'trace' });
  const found = await at.reader.find(at.node.remote(at.image, object));
  at.server.delay(300);
  const { server } = await at.mounted.stats();
  process.kill(server, 'SIGKILL');
  await expect.poll(() => processId(server), { interval: 2 }).toBeUndefined();
  expect((await at.reader.file(found)).equals(object.bytes)).toBe(true);
  const log = await readFile(objectfsFiles(nodePaths(at.node.root)).log, 'utf8');
  const opens = log.split('\n').filter((line) => line.includes(' OPEN ') && !line.includes(`"pid":${server},`));
  expect(opens).toHaveLength(1);
});

test('both may die, one after the other, as often as they like', async () => {
  const objects = Array.from({ length: 12 }, (_, i) => randomObject(2000 + i));
  await using at = await setUp(objects);
  const started = (await at.mounted.stats()).startedAt;
  for (const [i, object] of objects.entries()) {
    if (i % 2 === 0) await killAndWait(at.mounted, i % 4 === 0 ? 'supervisor' : 'server');
    expect((await at.reader.file(at.node.remote(at.image, object))).equals(object.bytes)).toBe(true);
  }
  const again = await at.node.start({ manager: at.server.address });
  expect(again.adopted).toBe(true);
  const { server, supervisor, startedAt } = await again.stats();
  expect(startedAt).toBe(started);
  await again.stop();
  // Its parent is dead: whoever inherited it may take a moment to notice.
  for (const pid of [server, supervisor]) await expect.poll(() => processId(pid)).toBeUndefined();
  expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain(at.node.root);
});

test.each(['server', 'supervisor'] as const)(
  'files that are open past the %s stay open when it dies, and open again',
  async (role) => {
    const [object, large] = [randomObject(50_000), randomObject(3 * CHUNK)] as const;
    await using at = await setUp([object, large]);
    const path = at.node.remote(at.image, object);
    const largePath = at.node.remote(at.image, large);
    const before = await at.reader.open(path);
    const cached = await at.reader.open(largePath);
    expect((await at.mounted.stats()).openPassthrough).toBe(1);
    await killAndWait(at.mounted, role);
    expect((await at.reader.read(before)).equals(object.bytes)).toBe(true);
    expect((await at.reader.read(cached, CHUNK - 5, 10)).equals(large.bytes.subarray(CHUNK - 5, CHUNK + 5))).toBe(true);
    await using other = new Reader();
    const after = await other.open(path);
    expect((await other.read(after, 100, 1000)).equals(object.bytes.subarray(100, 1100))).toBe(true);
    expect((await at.mounted.stats()).openPassthrough).toBe(2);
    await at.reader.close(before);
    await killAndWait(at.mounted, role);
    expect((await at.reader.file(path)).equals(object.bytes)).toBe(true);
    expect((await other.read(after)).equals(object.bytes)).toBe(true);
    await other.close(after);
    await expect.poll(async () => (await at.mounted.stats()).openPassthrough, { timeout: 5_000 }).toBe(0);
    // The backing id was given back: a new one serves the next open.
    expect((await at.reader.file(path)).equals(object.bytes)).toBe(true);
    expect((await at.reader.read(cached)).equals(large.bytes)).toBe(true);
  },
);

test.each(['', ', also when the server was killed meanwhile'])(
  'a reader that is killed while it waits is gone at once%s',
  async (also) => {
    const object = randomObject(5000);
    await using at = await setUp([object]);
    at.server.delay(15_000);
    const victim = new Reader();
    const read = victim.file(at.node.remote(at.image, object)).catch(() => 'killed');
    await expect.poll(async () => (await at.mounted.stats()).inFlight, { timeout: 5_000 }).toBe(1);
    if (also !== '') {
      await killAndWait(at.mounted, 'server');
      await expect.poll(async () => (await at.mounted.stats()).inFlight, { timeout: 5_000 }).toBe(1);
    }
    const started = performance.now();
    await victim.kill();
    expect(await read).toBe('killed');
    expect(performance.now() - started).toBeLessThan(3_000);
  },
);

test('a signal that kills nobody does not break a read', async () => {
  const object = randomObject(5000);
  await using at = await setUp([object]);
  at.server.delay(1_200);
  const read = at.reader.file(at.node.remote(at.image, object));
  await expect.poll(async () => (await at.mounted.stats()).inFlight, { timeout: 5_000 }).toBe(1);
  for (let i = 0; i < 5; i++) {
    // Node's own handler for it wakes the process and does nothing else.
    process.kill(at.reader.pid, 'SIGWINCH');
    await sleep(100);
  }
  expect((await read).equals(object.bytes)).toBe(true);
});
