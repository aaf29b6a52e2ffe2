import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { loadImage, loadSums } from '../images/quick.ts';
import { type Cluster, type GearNode, type PublishedImage, startCluster } from '../support/cluster.ts';

/** Kills one kind of process, once. */
type Blow = (node: GearNode, cluster: Cluster) => Promise<void>;

const processOf =
  (which: 'server' | 'supervisor'): Blow =>
  async (node) => {
    const { objectFilesystem } = await node.status();
    process.kill(objectFilesystem[which], 'SIGKILL');
    await until(`another ${which}`, async () => {
      const now = (await node.status().catch(() => undefined))?.objectFilesystem[which];
      return now !== undefined && now !== objectFilesystem[which];
    });
  };

const BLOWS: readonly (readonly [name: string, blow: Blow])[] = [
  ["the object filesystem's server", processOf('server')],
  ["the object filesystem's supervisor", processOf('supervisor')],
  [
    'the driver',
    async ({ driver }) => {
      await driver.kill();
      await driver.start();
    },
  ],
  [
    'the manager',
    async (_, { manager }) => {
      await manager.kill();
      await manager.start();
    },
  ],
];

const READ = 'for f in /load/*; do sha256sum $f || echo FAILED $f; done > /sums; echo done > /finished; sleep 1000';
const WRITE =
  'n=0; while :; do n=$((n+1)); echo $n > /out/$n; test $(cat /out/$n) = $n || echo WRONG > /wrong; rm /out/$n; done';

const START = (image: string) => ['run', '--rm', '--network=none', image, 'sh', '-c', 'wc -c < /load/0001'];

describe.each(BLOWS)('kill -9 of %s under load', (_name, blow) => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let node: GearNode;
  let image: PublishedImage;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    image = await cluster.publish('load:1', loadImage());
    node = await cluster.node();
    await node.docker.run(['pull', image.gear]);
  });
  afterAll(() => stack.disposeAsync());

  it('gives no wrong byte, loses no mount and hangs nothing', async () => {
    const { docker } = node;
    const readers = await Promise.all([1, 2].map(() => docker.detached(image.gear, ['sh', '-c', READ])));
    const writer = await docker.detached(image.gear, ['sh', '-c', `mkdir /out; ${WRITE}`]);
    let starting = true;
    const starter = (async () => {
      let started = 0;
      for (; starting; started += 1) {
        const { exitCode, stdout, stderr } = await docker.attempt(START(image.gear));
        // Docker itself loses the arguments of a call that is under way when the driver dies, and says so.
        if (exitCode === 125 && stderr.includes('came without arguments')) continue;
        expect(stderr).toBe('');
        expect(stdout).toMatch(/^\d+$/);
      }
      return started;
    })();
    const finished = async (id: string) => (await docker.attempt(['exec', id, 'cat', '/finished'])).exitCode === 0;
    let underLoad = 0;
    for (let round = 0; round < 3; round += 1) {
      if (!(await finished(readers[0] ?? ''))) underLoad += 1;
      await blow(node, cluster);
      await delay(200);
    }
    expect(underLoad).toBeGreaterThanOrEqual(2);
    for (const id of readers)
      await until('the end of a reader', () => finished(id), { timeout: 120_000, interval: 500 });
    starting = false;
    expect(await starter).toBeGreaterThan(0);
    const sums = loadSums();
    for (const id of readers) {
      const lines = (await docker.run(['exec', id, 'cat', '/sums'])).split('\n');
      expect(lines.filter((line, at) => line !== sums[at])).toEqual([]);
      expect(lines).toHaveLength(sums.length);
    }
    expect((await docker.inspect(writer)).State.Running).toBe(true);
    expect((await docker.attempt(['exec', writer, 'cat', '/wrong'])).exitCode).not.toBe(0);
  });
});
