import { createHash } from 'node:crypto';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import type { ImageStatus } from '../../driver/status/node-status.ts';
import { CHUNK, quickImage } from '../images/quick.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { type Cluster, type GearNode, type PublishedImage, startCluster } from '../support/cluster.ts';
import { gear, gearJson } from '../support/gear.ts';

// A start that touches small files and some chunks of a big one.
const START = [
  'sh',
  '-c',
  `cat small/0001 small/0007 small/0033 tree/one/leaf >/dev/null; dd if=big bs=${CHUNK} skip=4 count=3 2>/dev/null | sha256sum`,
];

interface ProfileJson {
  readonly runs: number;
  readonly chosen: number;
  readonly preparedBytes: number;
  readonly items: readonly unknown[];
}

describe('a start-up profile', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let image: PublishedImage;
  let first: string;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    image = await cluster.publish('quick:1', quickImage());
  });
  afterAll(() => stack.disposeAsync());

  const run = async (node: GearNode, name = image.gear) => {
    await node.docker.run(['pull', '--quiet', name]);
    return await node.docker.once(name, START);
  };
  const statusOf = async (node: GearNode): Promise<ImageStatus> => {
    const [found] = (await node.status()).images;
    if (found === undefined) throw new Error('no image');
    return found;
  };
  const profile = async () =>
    await gearJson<ProfileJson>([
      'profile',
      'show',
      '--manager',
      cluster.manager.address,
      '--monitor',
      cluster.manager.monitor,
      image.gear,
    ]);
  const metricsOf = async (node: GearNode) => {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const socketPath = join(node.driver.root, 'run/driver.sock');
    request({ socketPath, path: '/metrics' }, (answer) => void text(answer).then(resolve, reject))
      .on('error', reject)
      .end();
    return await promise;
  };
  const demanded = async (node: GearNode) => (await node.status()).objectFilesystem.demandBytes;

  it('is learned from the first node', async () => {
    const node = await cluster.node();
    first = await run(node);
    expect(await demanded(node)).toBeGreaterThan(3 * CHUNK);
    const learned = await until('a profile', async () => {
      const found = await profile().catch(() => undefined);
      return found !== undefined && found.preparedBytes > 0 ? found : undefined;
    });
    expect(learned).toMatchObject({ runs: 1, chosen: learned.items.length });
    // The program's chunks, the small files, and three or four chunks of the big one.
    expect(learned.chosen).toBeGreaterThan(8);
    await node[Symbol.asyncDispose]();
  });

  it('makes a second node fetch nothing or nearly nothing while a container starts', async () => {
    const node = await cluster.node();
    await node.docker.run(['pull', '--quiet', image.gear]);
    const before = await until('the prefetch', async () => {
      const { startUp } = await statusOf(node);
      return startUp?.prefetchMilliseconds === undefined ? undefined : startUp;
    });
    expect(before.prefetchedChunks).toBe(before.plannedChunks);
    expect(before.prefetchedWireBytes).toBeLessThan(before.prefetchedBytes);
    expect(await node.docker.once(image.gear, START)).toBe(first);
    expect(await demanded(node)).toBe(0);
    expect(await statusOf(node)).toMatchObject({ state: 'lazy', startUp: { missedChunks: 0 } });
    const metrics = await metricsOf(node);
    expect(metrics).toContain('gear_node_bytes_total{reason="demand"} 0');
    expect(metrics).toContain(`gear_node_bytes_total{reason="profile"} ${before.prefetchedBytes}`);
    await node[Symbol.asyncDispose]();
  });

  it('loses to whoever reads at once, and nothing is fetched twice', async () => {
    const node = await cluster.node({ driver: { args: ['--audit', '1'] } });
    expect(await run(node)).toBe(first);
    await until(
      'the end of the prefetch',
      async () => (await statusOf(node)).startUp?.prefetchMilliseconds !== undefined,
    );
    const { startUp } = await statusOf(node);
    // Watched in full: what was brought was needed.
    expect(startUp?.unusedChunks).toBeLessThanOrEqual(2);
    expect(startUp?.missedChunks).toBe(0);
    await node[Symbol.asyncDispose]();
  });

  it('serves the next version of the image from its first start on', async () => {
    const next = await cluster.publish('quick:2', quickImage('the second version'));
    const node = await cluster.node();
    await node.docker.run(['pull', '--quiet', next.gear]);
    await until('the prefetch', async () => (await statusOf(node)).startUp?.prefetchMilliseconds !== undefined);
    expect(await node.docker.once(next.gear, START)).toBe(first);
    expect(await demanded(node)).toBe(0);
    await node[Symbol.asyncDispose]();
  });

  it('is followed by the rest of the image where a node is to be filled', async () => {
    const node = await cluster.node({ driver: { args: ['--fill', 'eager'] } });
    await node.docker.run(['pull', '--quiet', image.gear]);
    await until('the whole image', async () => (await statusOf(node)).state === 'complete');
    const { demandBytes, fetchedBytes, prefetchedBytes } = (await node.status()).objectFilesystem;
    expect([demandBytes, fetchedBytes > 0, prefetchedBytes > 0]).toEqual([0, true, true]);
    await node[Symbol.asyncDispose]();
  });

  it('is followed by the rest of the image only while nobody waits for anything, where a node is filled when idle', async () => {
    const node = await cluster.node({ driver: { args: ['--fill', 'idle'] } });
    await node.docker.run(['pull', '--quiet', image.gear]);
    // Each file is one that the profile does not name and that nobody has read before.
    const files = Array.from({ length: 8 }, (_, at) => `small/${String(100 + at).padStart(4, '0')}`);
    await node.docker.once(image.gear, ['sh', '-c', `for f in ${files.join(' ')}; do cat $f; sleep 0.7; done`]);
    const { images, objectFilesystem: busy } = await node.status();
    expect(images).toMatchObject([{ state: 'filling' }]);
    // All that was fetched, somebody waited for.
    expect(busy.fetchedBytes).toBe(busy.demandBytes);
    expect(busy.demandBytes).toBeGreaterThan(0);
    await until('the whole image', async () => (await statusOf(node)).state === 'complete', { timeout: 60_000 });
    const { objectFilesystem: idle } = await node.status();
    expect(idle.demandBytes).toBe(busy.demandBytes);
    expect(idle.fetchedBytes).toBeGreaterThan(busy.fetchedBytes);
    await node[Symbol.asyncDispose]();
  });

  it('is exported, forgotten, and imported again', async () => {
    const at = ['--manager', cluster.manager.address, '--monitor', cluster.manager.monitor];
    const exported = await gear(['profile', 'export', ...at, image.gear]);
    expect(exported.exitCode).toBe(0);
    await using folder = await temporaryFolder();
    const file = join(folder.path, 'profile.json');
    await writeFile(file, exported.stdout);
    expect((await gear(['profile', 'reset', ...at, image.gear])).exitCode).toBe(0);
    expect((await gear(['profile', 'show', ...at, image.gear])).stderr).toContain('no start-up profile');
    const imported = await gear(['profile', 'import', ...at, '--file', file, image.gear]);
    expect(imported).toMatchObject({ exitCode: 0 });
    expect((await profile()).items).toHaveLength((JSON.parse(exported.stdout) as { items: unknown[] }).items.length);
    const shown = await gear(['inspect', ...at.slice(0, 2), '--monitor', cluster.manager.monitor, image.gear]);
    expect(shown.stdout).toContain('Start-up');
  });

  it('is not needed: damaged, or with objects that are gone, containers start all the same', async () => {
    const { manager } = cluster;
    const profiles = join(manager.root, 'profiles');
    // Of the second version's profile, an object that its start does not really need is gone.
    const leaf = createHash('sha256').update('leaf of one\n').digest('hex');
    await rm(join(manager.root, 'objects', leaf.slice(0, 2), leaf.slice(2)));
    for (const name of await readdir(profiles)) if (name.endsWith('.pack')) await rm(join(profiles, name));
    const node = await cluster.node();
    const other = image.gear.replace(/1$/, '2');
    await node.docker.run(['pull', '--quiet', other]);
    expect(await node.docker.once(other, ['sh', '-c', 'cat small/0007 | head -n 1'])).toBe('small file 7');
    await manager.stop();
    for (const name of await readdir(profiles)) await writeFile(join(profiles, name), 'damaged');
    await manager.start();
    await node.docker.run(['pull', '--quiet', image.gear]);
    expect(await node.docker.once(image.gear, ['sh', '-c', 'cat small/0001 | head -n 1'])).toBe('small file 1');
    await node[Symbol.asyncDispose]();
  });
});
