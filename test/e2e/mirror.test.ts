import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { type Dockerd, startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { startManager, type TestManager } from '../../deploy/sandbox/gear.ts';
import type { WrittenImage } from '../../deploy/sandbox/oci-layout.ts';
import { type Registry, startRegistry } from '../../deploy/sandbox/registry.ts';
import { pushImage, quickImage, smallContent } from '../images/quick.ts';
import { archive, file } from '../images/tar-bytes.ts';
import { type GearNode, startNode } from '../support/cluster.ts';
import { pushList, pushTiny } from '../support/raw-push.ts';

describe('the registry endpoint', () => {
  const stack = new AsyncDisposableStack();
  let registry: Registry;
  let manager: TestManager;
  let node: GearNode;
  let written: WrittenImage;

  beforeAll(async () => {
    registry = stack.use(await startRegistry());
    manager = stack.use(
      await startManager({ insecureRegistries: [registry.host], args: ['--upstream', registry.host] }),
    );
    written = await pushImage(quickImage(), `docker://${registry.host}/library/quick:1`);
    node = stack.use(
      await startNode(manager, {
        dockerd: { insecureRegistries: [manager.http], registryMirrors: [`http://${manager.http}`] },
      }),
    );
  });
  afterAll(() => stack.disposeAsync());

  const get = async (path: string, init: RequestInit = {}) => {
    const answer = await fetch(`http://${manager.http}/v2/${path}`, init);
    return { answer, status: answer.status, bytes: Buffer.from(await answer.arrayBuffer()) };
  };

  it('makes an unchanged "docker run" lazy as a mirror of docker.io', async () => {
    expect(await node.docker.once('quick:1', ['cat', '/etc/marker'])).toBe('quick');
    const { objects } = await node.fetched();
    expect(objects).toBeLessThanOrEqual(5);
    expect((await node.status()).images).toMatchObject([{ state: 'lazy' }]);
    // What was pulled is known by the original's name.
    expect((await node.docker.inspect('quick:1')).RepoTags).toEqual(['quick:1']);
  });

  it('gives the Gear image to who names the manager as the registry, and the next version when the tag moves', async () => {
    const name = `${manager.http}/library/quick:1`;
    expect(await node.docker.once(name, ['cat', '/data/small/0001'])).toBe(smallContent(1).trimEnd());
    const image = quickImage();
    const moved = { ...image, layers: [...image.layers, { tar: archive(file('etc/marker', 'moved\n')) }] };
    await pushImage(moved, `docker://${registry.host}/library/quick:1`);
    await node.docker.run(['pull', name]);
    expect(await node.docker.once(name, ['cat', '/etc/marker'])).toBe('moved');
    expect((await node.status()).images.filter(({ state }) => state === 'lazy')).toHaveLength(2);
  });

  it('gives a node the same after a restart of the manager, by digest, without the upstream', async () => {
    const before = await get('library/quick/manifests/1');
    const digest = before.answer.headers.get('docker-content-digest') ?? '';
    await manager.stop();
    await manager.start(['--upstream', registry.host]);
    const again = await get(`library/quick/manifests/${digest}`);
    expect([again.status, again.bytes.equals(before.bytes)]).toEqual([200, true]);
    const asked = registry.requests().length;
    const [layer] = (JSON.parse(again.bytes.toString()) as { layers: { digest: string; size: number }[] }).layers;
    const blob = await get(`library/quick/blobs/${layer?.digest}`);
    expect([blob.status, blob.bytes.length]).toEqual([200, layer?.size]);
    expect(registry.requests().length).toBe(asked);
  });

  it('sends by digest exactly the bytes of the original', async () => {
    const manifest = await get(`library/quick/manifests/${written.manifestDigest}`);
    expect(manifest.status).toBe(200);
    const blob = written.layers[1] as WrittenImage['layers'][number];
    const path = `library/quick/blobs/${blob.digest}`;
    const whole = await get(path);
    expect(`sha256:${createHash('sha256').update(whole.bytes).digest('hex')}`).toBe(blob.digest);
    const part = await get(path, { headers: { range: 'bytes=1000-1999' } });
    expect([part.status, part.answer.headers.get('content-range')]).toEqual([206, `bytes 1000-1999/${blob.size}`]);
    expect(part.bytes.equals(whole.bytes.subarray(1000, 2000))).toBe(true);
    const head = await get(path, { method: 'HEAD' });
    expect([head.status, head.answer.headers.get('content-length')]).toEqual([200, String(blob.size)]);
  });

  it('gives of a multi-arch list one that has the Gear image and the other platforms as they were', async () => {
    const [here, elsewhere] = process.arch === 'arm64' ? ['arm64', 'amd64'] : ['amd64', 'arm64'];
    const own = (await pushImage(quickImage('of a list'), `docker://${registry.host}/team/multi:own`)).manifestDigest;
    const other = await pushTiny(registry.host, 'team/multi', 'other', 'of another platform');
    await pushList(registry.host, 'team/multi', '1', [
      { digest: other, architecture: elsewhere as string },
      { digest: own, architecture: here as string },
    ]);
    const { bytes, answer } = await get('team/multi/manifests/1');
    expect(answer.headers.get('content-type')).toBe('application/vnd.oci.image.index.v1+json');
    const { manifests } = JSON.parse(bytes.toString()) as { manifests: { digest: string }[] };
    expect([manifests[0]?.digest, manifests[1]?.digest === own]).toEqual([other, false]);
    expect(await node.docker.once(`${manager.http}/team/multi:1`, ['cat', '/etc/marker'])).toBe('of a list');
    expect((await node.status()).images.filter(({ state }) => state === 'lazy')).toHaveLength(3);
  });

  it('gives the original where there is no Gear image to be had', async () => {
    await pushTiny(registry.host, 'odd/chart', '1', 'no image', true);
    const artifact = await get('odd/chart/manifests/1');
    expect([artifact.status, artifact.bytes.includes('vnd.example.chart')]).toEqual([200, true]);
    const old = { headers: { accept: 'application/vnd.docker.distribution.manifest.v2+json' } };
    const digest = await pushTiny(registry.host, 'odd/image', '1', 'an image');
    const unable = await get('odd/image/manifests/1', old);
    expect(unable.answer.headers.get('docker-content-digest')).toBe(digest);
  });

  it('gives the last known Gear image when the upstream is down, and an error for what it does not know', async () => {
    const known = await get('library/quick/manifests/1', { method: 'HEAD' });
    await registry.process.kill();
    const stale = await get('library/quick/manifests/1');
    expect(stale.answer.headers.get('docker-content-digest')).toBe(known.answer.headers.get('docker-content-digest'));
    const unknown = await get('library/other/manifests/1');
    expect(unknown.status).toBe(503);
    expect(JSON.parse(unknown.bytes.toString())).toMatchObject({ errors: [{ code: 'UNKNOWN' }] });
  });
});

describe('a pull that cannot wait', () => {
  it('gets the original, which works, and the Gear image later', async () => {
    await using stack = new AsyncDisposableStack();
    const registry = stack.use(await startRegistry());
    const manager = stack.use(
      await startManager({
        insecureRegistries: [registry.host],
        args: ['--upstream', registry.host, '--pull-timeout', '0'],
      }),
    );
    const dockerd: Dockerd = stack.use(await startDockerd({ insecureRegistries: [manager.http] }));
    const { manifestDigest } = await pushImage(quickImage(), `docker://${registry.host}/team/quick:1`);
    const name = `${manager.http}/team/quick:1`;
    expect(await dockerd.docker.once(name, ['cat', '/etc/marker'])).toBe('quick');
    expect((await dockerd.docker.inspect(name)).RootFS.Layers).toHaveLength(3);
    const gear = await until('the Gear image', async () => {
      const answer = await fetch(`http://${manager.http}/v2/team/quick/manifests/1`);
      const found = answer.headers.get('docker-content-digest');
      await answer.body?.cancel();
      return found === manifestDigest ? undefined : found;
    });
    expect(gear).toMatch(/^sha256:/);
  });
});
