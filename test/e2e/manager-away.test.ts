import { createHash } from 'node:crypto';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { quickImage, smallContent } from '../images/quick.ts';
import { type Cluster, type GearNode, type PublishedImage, startCluster } from '../support/cluster.ts';

// Long enough for a manager to start on a busy machine.
const DEADLINE = 10;
const path = (number: number): string => `/data/small/${String(number).padStart(4, '0')}`;

describe('a node without its manager', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let node: GearNode;
  let image: PublishedImage;
  let id: string;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    image = await cluster.publish('quick:1', quickImage());
    node = await cluster.node({ driver: { args: ['--fetch-deadline', String(DEADLINE)] } });
    id = await node.docker.detached(image.gear, ['sleep', '100000']);
    await node.docker.run(['exec', id, 'cat', path(1)]);
  });
  afterAll(() => stack.disposeAsync());

  const read = async (number: number) => {
    const started = performance.now();
    const { exitCode, stdout, stderr } = await node.docker.attempt(['exec', id, 'cat', path(number)]);
    return { exitCode, stdout, stderr, seconds: (performance.now() - started) / 1000 };
  };

  it('reads what is cached, starts containers, and fails what is not with EIO at the deadline', async () => {
    await cluster.manager.stop();
    try {
      expect(await read(1)).toMatchObject({ exitCode: 0, stdout: smallContent(1).trimEnd() });
      expect(await node.docker.once(image.gear, ['cat', path(1)])).toBe(smallContent(1).trimEnd());
      const missing = await read(50);
      expect(missing).toMatchObject({ exitCode: 1, stdout: '' });
      expect(missing.stderr).toMatch(/I\/O error|Input\/output error/);
      expect(missing.seconds).toBeGreaterThan(DEADLINE - 1);
      expect(missing.seconds).toBeLessThan(DEADLINE + 8);
      expect(await node.docker.run(['exec', id, 'stat', '-c', '%s', path(51)])).toBe(String(smallContent(51).length));
    } finally {
      await cluster.manager.start();
    }
    // The very file that failed, in the same container, nothing restarted.
    await until('a read after the manager is back', async () => (await read(50)).exitCode === 0, { timeout: 20_000 });
    expect(await read(50)).toMatchObject({ stdout: smallContent(50).trimEnd() });
  });

  it('finishes a read that waits when the manager comes back in time', async () => {
    await cluster.manager.kill();
    const waiting = read(60);
    await cluster.manager.start();
    expect(await waiting).toMatchObject({ exitCode: 0, stdout: smallContent(60).trimEnd() });
  });

  it('never shows bytes that do not match their digest, and recovers when the store does', async () => {
    const content = smallContent(70);
    const digest = createHash('sha256').update(content).digest('hex');
    const file = join(cluster.manager.root, 'objects', digest.slice(0, 2), digest.slice(2));
    await chmod(file, 0o644);
    await writeFile(file, content.replace('small', 'smell'));
    const bad = await read(70);
    expect(bad).toMatchObject({ exitCode: 1, stdout: '' });
    expect(bad.stderr).toMatch(/I\/O error|Input\/output error/);
    await writeFile(file, content);
    await until('a read of the mended object', async () => (await read(70)).exitCode === 0, { timeout: 20_000 });
    expect(await read(70)).toMatchObject({ stdout: content.trimEnd() });
  });
});
