import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { type Dockerd, startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { gear, gearJson } from '../../deploy/sandbox/gear.ts';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { startRegistry } from '../../deploy/sandbox/registry.ts';
import { copyImage, imageConfig, manifestDigest, rawManifest } from '../../deploy/sandbox/skopeo.ts';
import { pushImage, quickImage } from '../images/quick.ts';
import { type Cluster, convertImage, startCluster } from '../support/cluster.ts';
import { diffTrees, treeOf } from '../support/tree.ts';
import { umociUnpack } from '../support/umoci.ts';

interface Converted {
  readonly phase: string;
  readonly unchanged: boolean;
  readonly seconds: number;
  readonly destination: string;
  readonly sourceDigest: string;
  readonly gearDigest: string;
  readonly indexDigest: string;
  readonly objects: number;
  readonly layers: readonly { readonly diffId: string }[];
}

describe('gear convert', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let dockerd: Dockerd;
  let host: string;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    dockerd = stack.use(await startDockerd());
    host = cluster.registry.host;
  });
  afterAll(() => stack.disposeAsync());

  const convert = async (...args: readonly string[]): Promise<Converted> => {
    const insecure = ['--insecure-registry', host];
    const options = ['convert', '--json', '--manager', cluster.manager.address, ...insecure, ...args];
    const { exitCode, stdout, stderr } = await gear(options);
    if (exitCode !== 0) throw new Error(`${options.join(' ')}: ${exitCode}\n${stderr}`);
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Converted;
  };

  it('names the Gear image after the source, keeps its configuration, and is quick the second time', async () => {
    await pushImage(quickImage(), `docker://${host}/team/app:2`);
    const first = await convert(`docker://${host}/team/app:2`);
    expect(first).toMatchObject({ phase: 'done', unchanged: false, destination: `docker://${host}/team/app-gear:2` });
    expect(first.sourceDigest).toBe(await manifestDigest(`docker://${host}/team/app:2`));
    expect(first.gearDigest).toBe(await manifestDigest(`docker://${host}/team/app-gear:2`));
    expect(first.layers).toHaveLength(3);
    const [before, after] = [
      await imageConfig(`docker://${host}/team/app:2`),
      await imageConfig(`docker://${host}/team/app-gear:2`),
    ];
    const { rootfs, history } = after as { rootfs: { diff_ids: string[] }; history: unknown[] };
    expect(rootfs.diff_ids).toHaveLength(1);
    expect(history).toHaveLength(1);
    expect({ ...after, rootfs: undefined, history: undefined }).toEqual({
      ...before,
      rootfs: undefined,
      history: undefined,
    });
    const second = await convert(`docker://${host}/team/app:2`);
    expect(second).toMatchObject({ unchanged: true, gearDigest: first.gearDigest, indexDigest: first.indexDigest });
    expect(second.seconds).toBeLessThan(1);
  });

  it('makes the same Gear image whatever the source and whoever converts', async () => {
    await using folder = await temporaryFolder();
    const image = quickImage('sources');
    const written = await writeOciLayout(join(folder.path, 'layout'), image);
    const name = `${host}/sources:1`;
    await copyImage(written.reference, `docker://${name}`, { preserveDigests: true });
    await dockerd.docker.run(['pull', name]);
    const archive = join(folder.path, 'archive.tar');
    await copyImage(written.reference, `docker-archive:${archive}:sources:1`);
    const daemon = ['--docker-host', `unix://${dockerd.socket}`];
    const results = [
      await convert(`docker://${name}`, `docker://${host}/from/registry:1`),
      await convert('--local', `docker://${name}`, `docker://${host}/from/here:1`),
      await convert(written.reference, `docker://${host}/from/layout:1`),
      await convert(`docker-archive:${archive}`, `docker://${host}/from/archive:1`),
      await convert(...daemon, `docker-daemon:${name}`, `docker://${host}/from/daemon:1`),
      await convert(written.reference, `oci:${join(folder.path, 'out')}:1`),
      await convert(...daemon, `docker://${name}`, 'docker-daemon:loaded-gear:1'),
    ];
    expect(results.map(({ indexDigest }) => indexDigest)).toEqual(results.map(() => results[0]?.indexDigest));
    expect(results.map(({ objects }) => objects)).toEqual(results.map(() => results[0]?.objects));
    expect(
      (await rawManifest(`docker://${host}/from/here:1`)).equals(await rawManifest(`docker://${host}/from/registry:1`)),
    ).toBe(true);
    expect((await dockerd.docker.inspect('loaded-gear:1')).RootFS.Layers).toHaveLength(1);
  });

  it.each(['gzip', 'zstd', 'none'] as const)('reads %s layers', async (compression) => {
    const { layers, ...rest } = quickImage(`compressed-${compression}`);
    await pushImage(
      { ...rest, layers: layers.map((layer) => ({ ...layer, compression })) },
      `docker://${host}/${compression}:1`,
    );
    const { objects } = await convert(`docker://${host}/${compression}:1`);
    expect(objects).toBeGreaterThan(300);
  });

  it('takes the image of one platform out of a list', async () => {
    await using folder = await temporaryFolder();
    const manifests = [];
    for (const architecture of ['amd64', 'arm64']) {
      const written = await writeOciLayout(join(folder.path, architecture), {
        ...quickImage(architecture),
        top: { architecture },
      });
      await copyImage(written.reference, `docker://${host}/multi:${architecture}`, { preserveDigests: true });
      const size = (await rawManifest(`docker://${host}/multi:${architecture}`)).length;
      const mediaType = 'application/vnd.oci.image.manifest.v1+json';
      manifests.push({ mediaType, digest: written.manifestDigest, size, platform: { os: 'linux', architecture } });
    }
    const mediaType = 'application/vnd.oci.image.index.v1+json';
    const answer = await fetch(`http://${host}/v2/multi/manifests/list`, {
      method: 'PUT',
      headers: { 'content-type': mediaType },
      body: JSON.stringify({ schemaVersion: 2, mediaType, manifests }),
    });
    expect(answer.status).toBe(201);
    const digests = manifests.map(({ digest }) => digest);
    expect(
      (await convert('--platform', 'linux/arm64', `docker://${host}/multi:list`, `docker://${host}/multi-gear:arm`))
        .sourceDigest,
    ).toBe(digests[1]);
    expect(
      (await convert('--platform', 'linux/amd64', `docker://${host}/multi:list`, `docker://${host}/multi-gear:amd`))
        .sourceDigest,
    ).toBe(digests[0]);
  });

  it('converts an image once, however many ask at a time', async () => {
    const written = await pushImage(quickImage('at-once'), `docker://${host}/at-once:1`);
    const results = await Promise.all(
      Array.from({ length: 5 }, () => convert(`docker://${host}/at-once:1`, `docker://${host}/at-once-gear:1`)),
    );
    expect(new Set(results.map(({ gearDigest }) => gearDigest)).size).toBe(1);
    for (const { digest } of written.layers) {
      const path = `/v2/at-once/blobs/${digest}`;
      const gets = cluster.registry.requests().filter((request) => request.method === 'GET' && request.path === path);
      // None where another image brought the layer.
      expect(gets.length, digest).toBeLessThanOrEqual(1);
    }
    expect(results.filter(({ unchanged }) => !unchanged).length).toBeGreaterThan(0);
  });

  it('uses the credentials of an auth file, and names what it may not read', async () => {
    await using closed = await startRegistry({ login: { user: 'somebody', password: 'open sesame' } });
    await using folder = await temporaryFolder();
    const written = await writeOciLayout(join(folder.path, 'layout'), quickImage('closed'));
    const login = { user: 'somebody', password: 'open sesame' };
    await copyImage(written.reference, `docker://${closed.host}/closed:1`, { login });
    const auth = Buffer.from('somebody:open sesame').toString('base64');
    const file = join(folder.path, 'auth.json');
    await writeFile(file, JSON.stringify({ auths: { [closed.host]: { auth } } }));
    const args = ['--local', '--insecure-registry', closed.host, `docker://${closed.host}/closed:1`];
    expect((await convert('--authfile', file, ...args)).objects).toBeGreaterThan(300);
    const refused = await gear(['convert', '--manager', cluster.manager.address, '--force', ...args]);
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toContain(`${closed.host}/closed`);
    expect(refused.stderr).not.toContain(auth);
    expect(refused.stderr).not.toContain('open sesame');
  });

  it('lists and shows what was converted', async () => {
    await pushImage(quickImage('listed'), `docker://${host}/listed:1`);
    const converted = await convert(`docker://${host}/listed:1`);
    const list = await gear(['images', '--manager', cluster.manager.address]);
    expect(list).toMatchObject({ exitCode: 0, stdout: expect.stringContaining(`${host}/listed:1`) });
    const shown = await gear(['inspect', '--manager', cluster.manager.address, `docker://${host}/listed:1`]);
    expect(shown).toMatchObject({ exitCode: 0, stdout: expect.stringContaining(converted.indexDigest.slice(7, 19)) });
    expect(await gearJson<unknown>(['images', '--manager', cluster.manager.address])).toBeTruthy();
  });

  it('has a way back: an exported image has the same tree and configuration', async () => {
    await using folder = await temporaryFolder();
    const written = await writeOciLayout(join(folder.path, 'layout'), quickImage('exported'));
    await copyImage(written.reference, `docker://${host}/exported:1`, { preserveDigests: true });
    await convertImage(cluster.manager, `docker://${host}/exported:1`, `docker://${host}/exported-gear:1`);
    const out = join(folder.path, 'out');
    const args = ['--manager', cluster.manager.address, '--insecure-registry', host];
    const exported = await gear(['export', ...args, `docker://${host}/exported-gear:1`, `oci:${out}:latest`]);
    expect(exported, exported.stderr).toMatchObject({ exitCode: 0 });
    const [before, after] = await Promise.all([
      umociUnpack(written.folder, 'latest', join(folder.path, 'before')),
      umociUnpack(out, 'latest', join(folder.path, 'after')),
    ]);
    expect(diffTrees(await treeOf(before), await treeOf(after))).toEqual([]);
    const config = async (reference: string) => (await imageConfig(reference))['config'];
    expect(await config(`oci:${out}:latest`)).toEqual(await config(written.reference));
  });

  it('keeps everything when the catalogue is lost', async () => {
    const before = await gearJson<unknown>(['images', '--manager', cluster.manager.address]);
    await cluster.manager.stop();
    const catalogue = join(cluster.manager.root, 'catalog.sqlite');
    expect((await readFile(catalogue)).length).toBeGreaterThan(0);
    await writeFile(catalogue, 'not a database');
    await cluster.manager.start(['--rebuild']);
    expect(await gearJson<unknown>(['images', '--manager', cluster.manager.address])).toEqual(before);
  });
});
