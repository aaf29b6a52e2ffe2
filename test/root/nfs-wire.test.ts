import { open, readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deadline, until } from '#core/abort.ts';
import { digestOf, objectPath } from '#core/digest.ts';
import { NfsClient } from '#core/nfs/client.ts';
import type { ObjectFilesystem } from '../../driver/objectfs/interface.ts';
import type { SourceStats } from '../../driver/remote/manager-source.ts';
import { type NfsManager, startNfsManager } from '../support/nfs.ts';
import { randomObject, type TestNode, type TestObject, testNode } from '../support/objectfs.ts';
import { type RelayedManager, startRelayedManager } from '../support/relayed-manager.ts';
import { startTcpRelay } from '../support/tcp-relay.ts';

const KB = 1024;
const MB = 1024 * KB;
const DEADLINE = 2_000;

const stack = new AsyncDisposableStack();
let server: NfsManager;
const small = Array.from({ length: 90 }, (_, i) => randomObject(1 + i * 997));
const large = Array.from({ length: 12 }, (_, i) => randomObject(700 * KB + i));

beforeAll(async () => {
  server = stack.use(await startNfsManager());
  await server.store(...small, ...large);
});
afterAll(() => stack.disposeAsync());

describe("the driver's NFS client", () => {
  const [object] = large as [TestObject];
  const path = objectPath(object.digest);

  it('reads the right bytes through a slow wire, and takes as long as that', async () => {
    await using relay = await startTcpRelay(server.port);
    using client = await NfsClient.connect({ host: '127.0.0.1', port: relay.port });
    const folder = await client.folder('/objects');
    relay.rate = MB;
    const began = performance.now();
    const parts = await Promise.all([
      client.read(folder, path, 0, 400 * KB),
      client.read(folder, path, 400 * KB, object.bytes.length - 400 * KB),
    ]);
    expect(digestOf(Buffer.concat(parts))).toBe(object.digest);
    expect(performance.now() - began).toBeGreaterThan(500);
  });

  it('ends every call at its deadline when the wire is cut in the middle of an answer', async () => {
    await using relay = await startTcpRelay(server.port);
    using client = await NfsClient.connect({ host: '127.0.0.1', port: relay.port });
    const folder = await client.folder('/objects');
    const before = relay.passed;
    relay.cutAfter(300 * KB);
    const began = performance.now();
    const reads = await Promise.allSettled(
      large.slice(0, 3).map(async ({ digest }) => {
        using limit = deadline(800, 'a read');
        return await client.read(folder, objectPath(digest), 0, 600 * KB, { signal: limit });
      }),
    );
    expect(performance.now() - began).toBeLessThan(2_000);
    expect(relay.passed - before).toBe(300 * KB);
    for (const read of reads) expect(String((read as PromiseRejectedResult).reason)).toMatch(/no answer within/);
    // No FIN came: only deadlines tell.
    expect(client.ended).toBe(false);
  });
});

describe('objects fetched over NFS through a bad wire', () => {
  const nodeStack = new AsyncDisposableStack();
  let wire: RelayedManager;
  let node: TestNode;
  let objectfs: ObjectFilesystem;
  let image: Awaited<ReturnType<TestNode['image']>>;
  const unread = { small: [...small], large: [...large] };
  const take = (kind: 'small' | 'large', count: number) => unread[kind].splice(0, count);
  const read = async (object: TestObject) => digestOf(await readFile(node.remote(image, object)));
  /** One read(2) from the start. */
  const readPage = async (object: TestObject) => {
    await using file = await open(node.remote(image, object));
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4 * KB), 0, 4 * KB, 0);
    return buffer.subarray(0, bytesRead);
  };
  const readRight = async (objects: readonly TestObject[]) =>
    await Promise.all(objects.map(async (object) => expect(await read(object)).toBe(object.digest)));
  const source = async (kind: 'grpc' | 'nfs') =>
    (await objectfs.stats()).fetch.sources.find((candidate) => candidate.kind === kind) as SourceStats;
  /** Reads until NFS has answered once more: after a silence it is spared for a while. */
  const usedAgain = async () => {
    const { reads } = await source('nfs');
    await until(
      'a read over NFS',
      async () => {
        await readRight(take('small', 1));
        return (await source('nfs')).reads > reads;
      },
      { interval: 250, timeout: 12_000 },
    );
  };
  const knownAsAway = () =>
    until('the server is known as away', async () => (await source('nfs')).state === 'away', { timeout: 15_000 });

  beforeAll(async () => {
    wire = nodeStack.use(await startRelayedManager(server.manager.address, server.port));
    node = nodeStack.use(await testNode());
    image = await node.image([...small, ...large]);
    objectfs = await node.start({ manager: wire.address, fetch: 'nfs', deadline: DEADLINE });
  });
  afterAll(() => nodeStack.disposeAsync());

  it('are right when it is slow, and gRPC is asked only for what would take too long', async () => {
    await readRight(take('small', 2));
    expect(await source('grpc')).toMatchObject({ reads: 0 });
    wire.nfs.rate = 4 * MB;
    await readRight(take('large', 1));
    expect(await source('nfs')).toMatchObject({ state: 'trusted', failures: 0 });
    wire.nfs.rate = 100 * KB;
    const began = performance.now();
    await readRight([...take('large', 2), ...take('small', 3)]);
    // By NFS alone: 14 seconds.
    expect(performance.now() - began).toBeLessThan(4_000);
    expect((await source('grpc')).reads).toBeGreaterThan(0);
    wire.nfs.rate = undefined;
  });

  it('come by gRPC when it is cut in the middle of reads, and over NFS when it is whole again', async () => {
    await usedAgain();
    const before = await source('grpc');
    wire.nfs.cutAfter(200 * KB);
    const began = performance.now();
    await readRight([...take('large', 2), ...take('small', 10)]);
    expect(performance.now() - began).toBeLessThan(3_000);
    expect((await source('grpc')).reads).toBeGreaterThan(before.reads);
    await knownAsAway();
    expect((await source('nfs')).reason).toMatch(/no answer within/);
    wire.nfs.mend();
    await usedAgain();
  });

  it('fail at the deadline when gRPC is cut too, and can be read when both are back', async () => {
    wire.nfs.cutAfter(100 * KB);
    wire.grpc.cutAfter(0);
    // No more than this process has threads: another one would begin to wait when these have ended.
    const objects = [...take('large', 2), ...take('small', 2)];
    const began = performance.now();
    const reads = await Promise.allSettled(objects.map(readPage));
    expect(performance.now() - began).toBeLessThan(2 * DEADLINE);
    const failed = reads.filter((outcome) => outcome.status === 'rejected');
    expect(failed.length).toBeGreaterThan(0);
    for (const { reason } of failed) expect(String(reason)).toMatch(/EIO/);
    for (const [i, outcome] of reads.entries())
      if (outcome.status === 'fulfilled') expect(objects[i]?.bytes.indexOf(outcome.value)).toBe(0);
    const stats = await objectfs.stats();
    expect(stats.inFlight).toBe(0);
    await knownAsAway();
    wire.nfs.mend();
    wire.grpc.mend();
    await until(
      'they can be read',
      async () =>
        await readRight(objects).then(
          () => true,
          () => false,
        ),
      {
        interval: 500,
        timeout: 20_000,
      },
    );
  });
});
