import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { digestOf, objectPath } from '#core/digest.ts';
import type { ObjectFilesystem, ObjectFilesystemStats } from '../../driver/objectfs/interface.ts';
import { type NfsManager, startNfsManager } from '../support/nfs.ts';
import { randomObject, type TestNode, testNode } from '../support/objectfs.ts';

const KB = 1024;
const DEADLINE = 5_000;

function source(stats: ObjectFilesystemStats, kind: 'grpc' | 'nfs') {
  const found = stats.fetch.sources.find((candidate) => candidate.kind === kind);
  if (found === undefined) throw new Error(`no ${kind} in the statistics`);
  return found;
}

describe('objects fetched over NFS', () => {
  const stack = new AsyncDisposableStack();
  let nfs: NfsManager;
  let node: TestNode;
  let objectfs: ObjectFilesystem;
  /** Distinct small and large objects; each is read once, so that each read is a fetch. */
  const sizes = Array.from({ length: 120 }, (_, i) => (i % 10 === 0 ? 700 * KB + i : 1 + i * 997));
  const objects = sizes.map((size) => randomObject(size));
  let image: Awaited<ReturnType<TestNode['image']>>;
  let next = 0;
  const take = (count: number) => {
    next += count;
    return objects.slice(next - count, next);
  };
  const read = async (object: (typeof objects)[number]) => digestOf(await readFile(node.remote(image, object)));

  beforeAll(async () => {
    nfs = stack.use(await startNfsManager());
    await nfs.store(...objects);
    node = stack.use(await testNode());
    image = await node.image(objects);
    objectfs = await node.start({ manager: nfs.manager.address, fetch: 'nfs', deadline: DEADLINE });
  });
  afterAll(() => stack.disposeAsync());

  it('are the bytes of the digest, and gRPC is not asked', async () => {
    for (const object of take(30)) expect(await read(object)).toBe(object.digest);
    const stats = await objectfs.stats();
    expect(source(stats, 'nfs')).toMatchObject({ state: 'trusted', failures: 0 });
    expect(source(stats, 'nfs').reads).toBeGreaterThanOrEqual(30);
    expect(source(stats, 'grpc').reads).toBe(0);
  });

  it('are fetched by gRPC at once when the server is killed, and over NFS again when it is back', async () => {
    process.kill(await nfs.serverPid(), 'SIGKILL');
    for (const object of take(10)) expect(await read(object)).toBe(object.digest);
    const during = await objectfs.stats();
    expect(source(during, 'grpc').reads).toBeGreaterThan(0);
    await nfs.serving();
    const before = source(await objectfs.stats(), 'nfs').reads;
    await until(
      'a fetch over NFS',
      async () => {
        for (const object of take(1)) expect(await read(object)).toBe(object.digest);
        return source(await objectfs.stats(), 'nfs').reads > before;
      },
      { interval: 400 },
    );
  });

  it('come in time when the server falls silent', async () => {
    const pid = await nfs.serverPid();
    process.kill(pid, 'SIGSTOP');
    try {
      const began = performance.now();
      await Promise.all(take(10).map(async (object) => expect(await read(object)).toBe(object.digest)));
      expect(performance.now() - began).toBeLessThan(3_000);
      await until('the server is known as away', async () => source(await objectfs.stats(), 'nfs').state === 'away', {
        timeout: 10_000,
      });
      expect(source(await objectfs.stats(), 'nfs').reason).toMatch(/no answer within/);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });

  it('are never what does not match: the server is distrusted, the reader gets the right bytes', async () => {
    await until(
      'NFS is trusted again',
      async () => {
        for (const object of take(1)) await read(object);
        return source(await objectfs.stats(), 'nfs').state === 'trusted';
      },
      { interval: 500, timeout: 40_000 },
    );
    const [object] = take(1);
    if (object === undefined) throw new Error('no object left');
    const file = join(nfs.manager.root, 'objects', objectPath(object.digest));
    await chmod(file, 0o644);
    await writeFile(file, Buffer.alloc(object.bytes.length));
    await expect(read(object)).rejects.toThrow(/EIO/);
    const stats = await objectfs.stats();
    expect(source(stats, 'nfs')).toMatchObject({ state: 'refused' });
    expect(source(stats, 'nfs').reason).toContain(object.digest);
    expect(stats.mismatches).toBeGreaterThanOrEqual(2);
    await writeFile(file, object.bytes);
    expect(await read(object)).toBe(object.digest);
  });
});
