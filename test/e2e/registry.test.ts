import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rawManifest } from '../../deploy/sandbox/skopeo.ts';
import { quickImage, smallContent } from '../images/quick.ts';
import { type Cluster, type GearNode, type PublishedImage, startCluster } from '../support/cluster.ts';

/** The digests of the configuration and of the layers. (Docker 20.10 writes a manifest of its own kind around them.) */
async function blobsOf(place: string): Promise<string[]> {
  const manifest = JSON.parse((await rawManifest(place)).toString()) as {
    config: { digest: string };
    layers: { digest: string }[];
  };
  return [manifest.config, ...manifest.layers].map(({ digest }) => digest);
}

describe('Gear images in a registry', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let [first, second]: GearNode[] = [];
  let image: PublishedImage;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    image = await cluster.publish('quick:1', quickImage());
    first = await cluster.node();
    second = await cluster.node();
  });
  afterAll(() => stack.disposeAsync());

  const nodes = (): [GearNode, GearNode] => {
    if (first === undefined || second === undefined) throw new Error('no nodes');
    return [first, second];
  };

  it('are small, whatever the original', async () => {
    const [node] = nodes();
    await node.docker.run(['pull', image.gear]);
    const { Size } = await node.docker.inspect(image.gear);
    expect(Size).toBeLessThan(200_000);
  });

  it('are pushed again from a node with the same digest, and run on another', async () => {
    const [from, to] = nodes();
    await from.docker.run(['pull', image.gear]);
    const copy = `${cluster.registry.host}/copies/quick:2`;
    await from.docker.run(['tag', image.gear, copy]);
    await from.docker.run(['push', copy]);
    const original = await from.docker.inspect(image.gear);
    await to.docker.run(['pull', copy]);
    const pulled = await to.docker.inspect(copy);
    expect([pulled.Id, pulled.RootFS.Layers]).toEqual([original.Id, original.RootFS.Layers]);
    expect(await blobsOf(`docker://${copy}`)).toEqual(await blobsOf(`docker://${image.gear}`));
    expect(await to.docker.once(copy, ['cat', '/data/small/0033'])).toBe(smallContent(33).trimEnd());
  });

  it('are parents of images that are pushed and run on another node', async () => {
    const [from, to] = nodes();
    const child = `${cluster.registry.host}/child:1`;
    const id = await from.docker.run(['run', '--detach', '--network=none', image.gear, 'sleep', '1000']);
    await from.docker.run([
      'exec',
      id,
      'sh',
      '-c',
      'mv /data/tree /data/moved; cat /data/small/0044 > /data/new; chown 5 /data/big',
    ]);
    await from.docker.run(['commit', id, child]);
    await from.docker.run(['rm', '--force', id]);
    await from.docker.run(['push', child]);
    await to.docker.run(['pull', child]);
    const [here, there] = [await from.docker.inspect(child), await to.docker.inspect(child)];
    expect([there.Id, there.RootFS.Layers]).toEqual([here.Id, here.RootFS.Layers]);
    expect(there.RepoDigests).toEqual(here.RepoDigests);
    const script = 'cat new moved/three/leaf; stat -c %u big; sha256sum big | cut -c1-64';
    const outputs = [
      await from.docker.once(child, ['sh', '-c', script]),
      await to.docker.once(child, ['sh', '-c', script]),
    ];
    expect(outputs[1]).toBe(outputs[0]);
    expect(outputs[0]).toContain(`${smallContent(44)}leaf of three\n5\n`);
  });
});
