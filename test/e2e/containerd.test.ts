import { readFile, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { ociDigest } from '#core/digest.ts';
import { connect } from '#core/grpc/client.ts';
import { MonitorService } from '#proto/gen/gear/v1/monitor.ts';
import { endProcesses, findProcesses, temporaryFolder, unmountBelow } from '../../deploy/sandbox/cleanup.ts';
import { gearJson, startDriver, type TestDriver } from '../../deploy/sandbox/gear.ts';
import type { ImageDescription, ImageLayer } from '../../deploy/sandbox/oci-layout.ts';
import type { ContainerdStatus } from '../../driver/containerd/report.ts';
import type { NodeStatus } from '../../driver/status/node-status.ts';
import { hostileImage } from '../images/hostile.ts';
import { BUSYBOX_LAYER, pushImage, quickImage } from '../images/quick.ts';
import { archive, directory, file } from '../images/tar-bytes.ts';
import { type Cluster, convertImage, startCluster } from '../support/cluster.ts';
import { type Containerd, startContainerd } from '../support/containerd.ts';
import { diffTrees, type TreeManifest, treeOf } from '../support/tree.ts';

/** What runc mounts or the runtime writes in a container. */
const ENGINE = ['proc', 'sys', 'dev', 'run', 'etc/resolv.conf', 'etc/hosts', 'etc/hostname'];
/** containerd leaves trusted xattrs of a tar out; Docker, umoci and Gear do not. */
const NOT_UNPACKED = '"xattrs/trusted": xattrs {} is not {"trusted.note":"6f6620726f6f74"}';
const BLOB = /\/blobs\/(sha256:[0-9a-f]{64})/;

interface Node {
  readonly driver: TestDriver;
  readonly containerd: Containerd;
  status(): Promise<NodeStatus & { containerd: ContainerdStatus }>;
}

async function startNode(
  stack: AsyncDisposableStack,
  manager: { readonly address: string; readonly monitor: string },
): Promise<Node> {
  const folder = stack.use(await temporaryFolder());
  const socket = join(folder.path, 'snap.sock');
  const driver = stack.use(
    await startDriver({ manager: manager.address, monitor: manager.monitor, args: ['--containerd-socket', socket] }),
  );
  const containerd = stack.use(await startContainerd({ snapshotter: socket }));
  return { driver, containerd, status: async () => await gearJson(['status', '--root', driver.root]) };
}

/** The root filesystem of a running container of the image, seen from outside. */
async function treeIn(containerd: Containerd, snapshotter: string, image: string, id: string): Promise<TreeManifest> {
  await containerd.start(snapshotter, image, id, '/bin/sleep', '1000');
  try {
    const tree = await treeOf(containerd.rootOf(id), { without: ENGINE });
    // Made anew for each container.
    tree.delete('');
    return tree;
  } finally {
    await containerd.remove(id);
  }
}

/** Adds what a container needs to run to the bottom of an image. */
function runnable(image: ImageDescription): ImageDescription {
  const bottom: ImageLayer = { tar: BUSYBOX_LAYER() };
  return { ...image, layers: [bottom, ...image.layers] };
}

describe('containerd with unmodified images', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let node: Node;
  let image: string;
  const since = BigInt(Date.now()) * 1_000_000n;

  /** Digests of the blobs that somebody took from the registry since `from`. */
  const blobsSince = (from: number) =>
    cluster.registry
      .requests()
      .slice(from)
      .filter(({ method, status: code }) => method === 'GET' && code === 200)
      .flatMap(({ path }) => BLOB.exec(path)?.[1] ?? []);

  /** Pulls an image as the snapshotter overlayfs does and compares every entry of a container. */
  const expectSameAsOverlayfs = async (name: string) => {
    await node.containerd.ctr('images', 'pull', '--plain-http', '--snapshotter', 'overlayfs', name);
    const lazy = await treeIn(node.containerd, 'gear', name, 'same-gear');
    const overlayfs = await treeIn(node.containerd, 'overlayfs', name, 'same-overlayfs');
    expect(overlayfs.size).toBeGreaterThan(40);
    // A directory that a layer only implies has the time of its unpacking.
    for (const [path, entry] of overlayfs) {
      const twin = lazy.get(path);
      if (entry.type === 'directory' && entry.mtime > since && twin !== undefined) {
        lazy.set(path, { ...twin, mtime: entry.mtime });
      }
    }
    expect(diffTrees(overlayfs, lazy).filter((line) => line !== NOT_UNPACKED)).toEqual([]);
  };

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    node = await startNode(stack, cluster.manager);
  });
  afterAll(() => stack.disposeAsync());

  it('runs an image that the manager knows without downloading a layer', async () => {
    const published = await cluster.publish('quick:1', quickImage());
    image = published.plain;
    const from = cluster.registry.requests().length;
    await node.containerd.rpull(image);
    expect(await node.containerd.run('gear', image, 'cat', '/etc/marker', '/data/small/0007')).toContain('quick');
    const layers = published.written.layers.map(({ digest }) => digest);
    const taken = blobsSince(from);
    expect(taken).toContain(published.written.configDigest);
    expect(taken.filter((digest) => layers.includes(digest))).toEqual([]);
    const { containerd: report, images } = await node.status();
    expect(report).toMatchObject({ lazy: 3, committed: 3, ordinary: [] });
    expect(images).toHaveLength(1);
    expect(images[0]).toMatchObject({ state: 'lazy', users: 1 });
    expect(images[0]?.bytesHere).toBeLessThan((images[0]?.bytes ?? 0) / 2);
  });

  it('brings what the first node touched to a second one before it is asked for', async () => {
    const [learned] = (await node.status()).images;
    if (learned === undefined) throw new Error('no image');
    using monitor = connect(cluster.manager.monitor);
    await until('the profile', async () => {
      const request = { image: ociDigest(learned.image) };
      const profile = await monitor.unary(MonitorService.getProfile, request, { timeout: 5000 }).catch(() => undefined);
      return (profile?.preparedBytes ?? 0n) > 0n;
    });
    await using own = new AsyncDisposableStack();
    const second = await startNode(own, cluster.manager);
    await second.containerd.rpull(image);
    // Before any container is made.
    const { startUp } = await until('the prefetch', async () => {
      const [found] = (await second.status()).images;
      return found?.startUp?.prefetchMilliseconds === undefined ? undefined : found;
    });
    expect(startUp?.problem).toBeUndefined();
    expect(startUp?.prefetchedChunks).toBe(startUp?.plannedChunks);
    expect(await second.containerd.run('gear', image, 'cat', '/etc/marker', '/data/small/0007')).toContain('quick');
    const { images, objectFilesystem } = await second.status();
    expect(images).toMatchObject([{ image: learned.image, state: 'lazy', startUp: { missedChunks: 0 } }]);
    expect(objectFilesystem.demandBytes).toBe(0);
    expect(objectFilesystem.prefetchedBytes).toBeGreaterThan(0);
  });

  it('shares lazy layers between namespaces', async () => {
    const other = (...args: string[]) => node.containerd.ctr('--namespace', 'other', ...args);
    const from = cluster.registry.requests().length;
    await node.containerd.rpull(image, { namespace: 'other' });
    expect(await other('run', '--rm', '--snapshotter', 'gear', image, 'shared', 'cat', '/etc/marker')).toContain(
      'quick',
    );
    expect(
      cluster.registry
        .requests()
        .slice(from)
        .some(({ bytes }) => bytes > 100_000),
    ).toBe(false);
    expect((await node.status()).containerd).toMatchObject({ lazy: 3, committed: 3, ordinary: [] });
    await other('images', 'remove', '--sync', image);
    expect((await node.status()).containerd).toMatchObject({ lazy: 3, committed: 3 });
  });

  it('tells what the image takes on this disk, and what the disk has', async () => {
    const usages = await node.containerd.ctr('snapshots', '--snapshotter', 'gear', 'usage', '-b');
    const sizes = usages
      .split('\n')
      .slice(1)
      .map((line) => Number(line.trim().split(/\s+/)[1]));
    const used = sizes.reduce((sum, size) => sum + (Number.isNaN(size) ? 0 : size), 0);
    const folders = ['public', 'partial', 'private', 'images', 'containers'].map((name) =>
      join(node.driver.root, name),
    );
    const { stdout } = await execa('du', ['--summarize', '--total', '--one-file-system', '--block-size=1', ...folders]);
    const taken = Number(/^(\d+)\ttotal$/m.exec(stdout)?.[1]);
    expect(used / taken).toBeGreaterThan(0.7);
    expect(used / taken).toBeLessThan(1.1);
    await node.containerd.start('gear', image, 'statfs', '/bin/sleep', '1000');
    const inside = await statfs(node.containerd.rootOf('statfs'));
    const disk = await statfs(node.driver.root);
    expect({ blocks: inside.blocks, bsize: inside.bsize }).toEqual({ blocks: disk.blocks, bsize: disk.bsize });
    await node.containerd.remove('statfs');
  });

  it('shows the same root filesystem as overlayfs, entry by entry', async () => {
    await expectSameAsOverlayfs(image);
  });

  it('shows the same of a hostile image', async () => {
    const { plain } = await cluster.publish('hostile:1', runnable(hostileImage()));
    await node.containerd.rpull(plain);
    expect((await node.status()).containerd.ordinary).toEqual([]);
    await expectSameAsOverlayfs(plain);
  });

  it('puts ordinary layers on lazy ones, and learns them for the next time', async () => {
    const known = quickImage();
    const more = archive(
      // Parents that the tar only implies look as they do below: data/tree/two has 0700.
      file('data/tree/two/more', 'from an ordinary layer\n'),
      file('data/small/.wh.0003', ''),
      directory('data/new/', { mode: 0o1770, uid: 5 }),
      file('etc/marker', 'more\n'),
    );
    const top = archive(file('data/new/implied/top', 'top\n'), file('data/tree/two/top', 'top\n'));
    const name = `${cluster.registry.host}/more:1`;
    await pushImage({ ...known, layers: [...known.layers, { tar: more }, { tar: top }] }, `docker://${name}`);
    await node.containerd.rpull(name);
    const first = (await node.status()).containerd.ordinary;
    expect(first).toEqual([
      expect.objectContaining({ image: name, layers: 2, reason: expect.stringMatching(/does not know/) }),
    ]);
    await expectSameAsOverlayfs(name);
    await until('the conversion', async () => (await node.status()).containerd.ordinary[0]?.conversion === 'done');

    await node.containerd.ctr('images', 'remove', '--sync', name);
    await until('the end of its layers', async () => (await node.status()).containerd.ordinary.length === 0);
    await node.containerd.rpull(name);
    expect((await node.status()).containerd).toMatchObject({ ordinary: [] });
    await expectSameAsOverlayfs(name);
  });

  it('writes what a container changed into a layer', async () => {
    await node.containerd.start('gear', image, 'changed', '/bin/sleep', '1000');
    const script = 'chmod 0600 /data/big && mv /data/tree /data/moved && rm /data/small/0001 && echo new > /new';
    await node.containerd.ctr('tasks', 'exec', '--exec-id', 'change', 'changed', '/bin/sh', '-c', script);
    await using folder = await temporaryFolder();
    const tar = join(folder.path, 'diff.tar');
    const diff = await execa(
      'ctr',
      ['--address', node.containerd.socket, 'snapshots', '--snapshotter', 'gear', 'diff', 'changed'],
      { encoding: 'buffer' },
    );
    await writeFile(tar, diff.stdout);
    const { stdout } = await execa('tar', ['-tvf', tar, '--numeric-owner']);
    const listed = stdout.split('\n').map((line) => line.split(/\s+/));
    const names = listed.map((fields) => fields[5]);
    expect(names).toEqual(
      expect.arrayContaining(['data/big', 'data/moved/one/leaf', 'data/.wh.tree', 'data/small/.wh.0001', 'new']),
    );
    const big = await execa('tar', ['-xOf', tar, 'data/big'], { encoding: 'buffer' });
    const whole = await readFile(join(node.containerd.rootOf('changed'), 'data/big'));
    expect(Buffer.from(big.stdout).equals(whole)).toBe(true);
    await node.containerd.remove('changed');
  });

  it('frees what only a removed image used', async () => {
    const before = (await node.status()).images.length;
    await node.containerd.ctr('images', 'remove', '--sync', `${cluster.registry.host}/hostile:1`);
    await until('fewer images', async () => (await node.status()).images.length < before);
    const paths = await execa('find', [join(node.driver.root, 'containers'), '-maxdepth', '1', '-name', '.tmp-*']);
    expect(paths.stdout).toBe('');
  });

  it('keeps containers over restarts of the driver and of containerd', async () => {
    await node.containerd.start('gear', image, 'lives', '/bin/sleep', '1000');
    await node.driver.kill();
    await node.containerd.stop({ kill: true });
    const root = node.containerd.rootOf('lives');
    expect(await readFile(join(root, 'data/small/0100'), 'utf8')).toContain('small file 100');
    await node.driver.start();
    await node.containerd.restart();
    expect(await node.containerd.ctr('tasks', 'exec', '--exec-id', 'e1', 'lives', 'cat', '/data/small/0101')).toContain(
      'small file 101',
    );
    expect(await node.containerd.run('gear', image, 'cat', '/data/small/0102')).toContain('small file 102');
    await node.containerd.remove('lives');
  });

  it('starts after a reboot without a network, from what is here', async () => {
    await node.containerd.stop();
    await node.driver.stop();
    await cluster.manager.stop();
    await endProcesses(await findProcesses(({ commandLine }) => commandLine.includes(node.driver.folder)));
    await unmountBelow(node.driver.root);
    await node.driver.start();
    await node.containerd.restart();
    expect(await node.containerd.run('gear', image, 'cat', '/etc/marker', '/data/small/0102')).toContain(
      'small file 102',
    );
  });

  it('unpacks as usual while the manager is away, and says why', async () => {
    const name = `${cluster.registry.host}/away:1`;
    const known = quickImage('away');
    await pushImage(known, `docker://${name}`);
    await node.containerd.rpull(name);
    expect(await node.containerd.run('gear', name, 'cat', '/etc/marker')).toContain('away');
    const { ordinary } = (await node.status()).containerd;
    expect(ordinary).toEqual([
      expect.objectContaining({
        image: name,
        conversion: 'not asked',
        reason: expect.stringMatching(/127\.0\.0\.1:\d+/),
      }),
    ]);
    await cluster.manager.start();
    await convertImage(cluster.manager, `docker://${name}`, `docker://${cluster.registry.host}/away-gear:1`);
  });
});
