import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { gearJson, startDriver, type TestDriver } from '../../deploy/sandbox/gear.ts';
import type { NodeStatus } from '../../driver/status/node-status.ts';
import { BUSYBOX_LAYER, pushImage, quickImage } from '../images/quick.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { type Containerd, startContainerd } from '../support/containerd.ts';
import { CriClient } from '../support/cri.ts';

describe("Kubernetes' way to containerd", () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let driver: TestDriver;
  let containerd: Containerd;
  let cri: CriClient;

  const status = async () => await gearJson<NodeStatus>(['status', '--root', driver.root]);

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    const folder = stack.use(await temporaryFolder());
    const socket = join(folder.path, 'snap.sock');
    driver = stack.use(await startDriver({ manager: cluster.manager.address, args: ['--containerd-socket', socket] }));
    const pauseImage = `${cluster.registry.host}/pause:1`;
    await pushImage(
      { layers: [{ tar: BUSYBOX_LAYER() }], config: { Entrypoint: ['/bin/sleep', '1000000'] } },
      `docker://${pauseImage}`,
    );
    containerd = stack.use(await startContainerd({ snapshotter: socket, pauseImage }));
    cri = stack.use(new CriClient(containerd.socket));
    await until('CRI', () => cri.version().catch(() => undefined));
  });
  afterAll(() => stack.disposeAsync());

  it('pulls, runs, executes, tells and removes', async () => {
    const { plain, written } = await cluster.publish('quick:1', quickImage());
    const from = cluster.registry.requests().length;
    const id = await cri.pull(plain);
    expect(id).toBe(written.configDigest);
    const taken = cluster.registry.requests().slice(from);
    const layers = written.layers.filter(({ digest }) => taken.some(({ path }) => path.endsWith(digest)));
    expect(layers).toEqual([]);
    expect((await status()).containerd).toMatchObject({ lazy: 3, ordinary: [] });
    expect(await cri.imageStatus(plain)).toMatchObject({ id, repoTags: [plain] });

    const pod = await cri.runPod('pod');
    const container = await cri.start(pod, plain, 'main', ['/bin/sleep', '1000']);
    const { stdout, exitCode } = await cri.exec(container, '/bin/cat', '/etc/marker', '/data/small/0042');
    expect(exitCode).toBe(0);
    expect(stdout.toString()).toContain('small file 42');
    const failed = await cri.exec(container, '/bin/cat', '/etc/removed');
    expect(failed.exitCode).not.toBe(0);

    // containerd measures active snapshots every ten seconds, committed ones once, whenever that is.
    const filesystems = await until('image filesystems', async () => {
      const found = await cri.imageFilesystems();
      return Number(found[0]?.usedBytes?.value ?? 0n) > 0 ? found : undefined;
    });
    expect(filesystems[0]?.fsId?.mountpoint).toContain('io.containerd.snapshotter.v1.gear');
    expect(Number(filesystems[0]?.inodesUsed?.value)).toBeGreaterThan(0);

    await cri.removeContainer(container);
    await cri.removePod(pod);
    await cri.removeImage(plain);
    await until('no lazy layer', async () => (await status()).containerd?.lazy === 0);
    const images = (await status()).images;
    expect(images).toEqual([]);
    await expect(lstat(join(driver.root, 'containers'))).resolves.toBeDefined();
  });
});
