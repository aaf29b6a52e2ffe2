import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { quickImage, smallContent } from '../images/quick.ts';
import { type Cluster, type GearNode, type PublishedImage, startCluster } from '../support/cluster.ts';

describe('restarts with running containers', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let node: GearNode;
  let image: PublishedImage;
  let next = 100;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    image = await cluster.publish('quick:1', quickImage());
    node = await cluster.node({ dockerd: { liveRestore: true } });
    await node.docker.run(['pull', image.gear]);
  });
  afterAll(() => stack.disposeAsync());

  /** A file that nothing has read before. */
  const untouched = (): { path: string; content: string } => {
    const number = next++;
    return { path: `/data/small/${String(number).padStart(4, '0')}`, content: smallContent(number).trimEnd() };
  };
  const start = async (): Promise<string> => {
    const id = await node.docker.detached(image.gear, ['sleep', '1000']);
    await node.docker.run(['exec', id, 'sh', '-c', 'echo mine > /data/mine']);
    return id;
  };
  /** The container still runs as the same process, keeps its files, reads what it never read, and writes. */
  const expectAlive = async (id: string, pid: number): Promise<void> => {
    const { State } = await node.docker.inspect(id);
    expect(State, `${JSON.stringify(State)}\n${node.dockerd.process.output.slice(-6000)}`).toMatchObject({
      Running: true,
      Pid: pid,
    });
    const { path, content } = untouched();
    expect(await node.docker.run(['exec', id, 'cat', '/data/mine', path])).toBe(`mine\n${content}`);
    await node.docker.run([
      'exec',
      id,
      'sh',
      '-c',
      `echo x > /data/new && rm /data/new && chmod 700 ${untouched().path}`,
    ]);
  };

  it('dockerd stops and starts', async () => {
    const id = await start();
    const { Pid } = (await node.docker.inspect(id)).State;
    await node.dockerd.stop();
    await node.dockerd.start();
    await expectAlive(id, Pid);
    expect(await node.docker.once(image.gear, ['cat', '/etc/marker'])).toBe('quick');
    await node.docker.run(['rm', '--force', id]);
  });

  it('dockerd is killed and starts', async () => {
    const id = await start();
    const { Pid } = (await node.docker.inspect(id)).State;
    await node.dockerd.stop({ kill: true });
    await node.dockerd.start();
    await expectAlive(id, Pid);
    await node.docker.run(['rm', '--force', id]);
  });

  it.each(['stop', 'kill'] as const)('the driver ends by %s and starts', async (how) => {
    const id = await start();
    const { State, GraphDriver } = await node.docker.inspect(id);
    const { Pid } = State;
    const merged = GraphDriver.Data?.['MergedDir'] ?? '';
    await node.driver[how]();
    try {
      // Dockerd asks the driver before an exec; what runs needs no driver, neither for what is on the node nor for what is not.
      const { path, content } = untouched();
      expect(await readFile(join(merged, 'data/mine'), 'utf8')).toBe('mine\n');
      expect((await readFile(join(merged, path), 'utf8')).trimEnd()).toBe(content);
    } finally {
      await node.driver.start();
    }
    await expectAlive(id, Pid);
    expect(await node.docker.once(image.gear, ['cat', untouched().path])).toBe(smallContent(next - 1).trimEnd());
    await node.docker.run(['rm', '--force', id]);
  });

  it('the driver and dockerd both end and start', async () => {
    const id = await start();
    const { Pid } = (await node.docker.inspect(id)).State;
    await node.dockerd.stop();
    await node.driver.stop();
    await node.driver.start();
    await node.dockerd.start();
    await expectAlive(id, Pid);
    await node.docker.run(['rm', '--force', id]);
  });

  it('the driver starts without its manager', async () => {
    const { path, content } = untouched();
    expect(await node.docker.once(image.gear, ['cat', path])).toBe(content);
    await node.driver.stop();
    await cluster.manager.stop();
    try {
      await node.driver.start();
      expect(await node.docker.once(image.gear, ['cat', path])).toBe(content);
    } finally {
      await cluster.manager.start();
    }
  });
});
