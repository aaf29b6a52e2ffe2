import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { freePort } from '../../deploy/sandbox/ports.ts';
import { quickImage } from '../images/quick.ts';
import { type Cluster, type GearNode, type PublishedImage, startCluster } from '../support/cluster.ts';

// Docker puts files of its own into /etc.
const SUMS = 'find /bin /data /etc/passwd /etc/marker -type f | sort | xargs sha256sum';

describe('an image read over NFS', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let image: PublishedImage;

  beforeAll(async () => {
    const listen = `127.0.0.1:${await freePort()}`;
    cluster = stack.use(await startCluster({ args: ['--nfs', 'ganesha', '--nfs-listen', listen] }));
    image = await cluster.publish('quick:1', quickImage());
  });
  afterAll(() => stack.disposeAsync());

  const readAll = async (node: GearNode) => await node.docker.once(image.gear, ['sh', '-c', SUMS]);
  const sources = async (node: GearNode) => {
    const { sources: all } = (await node.status()).objectFilesystem.fetch;
    return Object.fromEntries(all.map((source) => [source.kind, source]));
  };

  it('is the same as over gRPC, byte for byte, and status says which way it came', async () => {
    await using byNfs = await cluster.node({ driver: { args: ['--fetch', 'nfs'] } });
    const sums = await readAll(byNfs);
    expect(sums.split('\n').length).toBeGreaterThan(300);
    const nfs = await sources(byNfs);
    expect(nfs['nfs']).toMatchObject({ state: 'trusted' });
    expect(nfs['nfs']?.reads).toBeGreaterThan(nfs['grpc']?.reads ?? 0);

    await using byGrpc = await cluster.node({ driver: { args: ['--fetch', 'grpc'] } });
    expect(await readAll(byGrpc)).toBe(sums);
    expect((await sources(byGrpc))['nfs']).toMatchObject({ state: 'off', reads: 0 });
  });

  it('is read by the object filesystem while the data path cannot be NFS, and needs no manager once it is filled', async () => {
    await using node = await cluster.node({ driver: { args: ['--data-path', 'nfs'] } });
    const sums = await readAll(node);
    await until(
      'the image is complete',
      async () => (await node.status()).images.every(({ state }) => state === 'complete'),
      { timeout: 60_000, interval: 500 },
    );
    const { nfs, dataPath } = await node.status();
    // Where the kernel has an NFS client, the data path is what was asked for.
    expect(dataPath).toMatch(nfs?.state === 'trusted' ? /^nfs 4\.1/ : /^fuse.*, as NFS is (off|away)$/);
    if (nfs?.state !== 'trusted') expect(nfs?.reason).not.toBe('');
    await cluster.manager.stop();
    expect(await readAll(node)).toBe(sums);
  });
});
