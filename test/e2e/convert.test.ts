import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { launcher } from '../../deploy/sandbox/gear.ts';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { copyImage, manifestDigest, rawManifest } from '../../deploy/sandbox/skopeo.ts';
import { strangeLayers } from '../images/hostile.ts';
import { pushImage, quickImage } from '../images/quick.ts';
import { archive, file, noise } from '../images/tar-bytes.ts';
import { type ConvertBench, startConvertBench } from '../support/convert.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

interface Manifest {
  readonly mediaType: string;
  readonly config: { readonly digest: string };
  readonly layers: readonly { readonly digest: string; readonly mediaType: string }[];
}

describe('gear convert', () => {
  const stack = new AsyncDisposableStack();
  let bench: ConvertBench;
  let host: string;

  beforeAll(async () => {
    bench = stack.use(await startConvertBench());
    host = bench.registry.host;
    await pushImage(quickImage(), `docker://${host}/team/quick:1`);
  });
  afterAll(() => stack.disposeAsync());

  const blob = async (name: string, digest: string) =>
    Buffer.from(await (await fetch(`http://${host}/v2/${name}/blobs/${digest}`)).arrayBuffer()).toString();
  const manifestOf = async (name: string) =>
    JSON.parse((await rawManifest(`docker://${host}/${name}`)).toString()) as Manifest;

  it('makes a Gear image beside the source, with the config as it was', async () => {
    const result = await bench.convert(`${host}/team/quick:1`);
    expect(result).toMatchObject({
      unchanged: false,
      source: `docker://${host}/team/quick:1`,
      destination: `docker://${host}/team/quick-gear:1`,
      warnings: [],
    });
    // Only the latest progress is told, so that a quick conversion passes over phases; those that are told come in order.
    const phases = ['resolve', 'fetch', 'layers', 'index', 'push', 'done'];
    const told = result.progress.map(({ phase }) => phases.indexOf(phase));
    expect(told.length).toBeGreaterThan(0);
    expect(told).not.toContain(-1);
    expect(told).toEqual(told.toSorted((a, b) => a - b));
    expect(await manifestDigest(result.destination)).toBe(result.gearDigest);

    const gear = await manifestOf('team/quick-gear:1');
    expect(gear.mediaType).toBe(MANIFEST);
    expect(gear.layers).toMatchObject([{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' }]);
    const before = await blob('team/quick', (await manifestOf('team/quick:1')).config.digest);
    const after = await blob('team/quick-gear', gear.config.digest);
    const withoutLayers = (config: string) =>
      config.replace(/"diff_ids":\[[^\]]*\]/, '"diff_ids":[]').replace(/"history":\[[^\]]*\]/, '"history":[]');
    expect(withoutLayers(after)).toBe(withoutLayers(before));
    expect(JSON.parse(after).history).toEqual([
      {
        created: '2024-05-06T07:08:09.123456789Z',
        created_by: `gear convert ${result.sourceDigest}`,
        comment: 'gear.v1',
      },
    ]);
  });

  it('does nothing, and that at once, when nothing has changed', async () => {
    const first = await bench.convert(`${host}/team/quick:1`);
    const again = await bench.convert(`docker://${host}/team/quick:1`);
    expect(again).toMatchObject({ unchanged: true, gearDigest: first.gearDigest, indexDigest: first.indexDigest });
    expect(again.seconds).toBeLessThan(1);
  });

  it('gives the same image when it is forced to convert again, here or in the manager', async () => {
    const first = await bench.convert(`${host}/team/quick:1`);
    for (const options of [['--force'], ['--force', '--local']]) {
      const again = await bench.convert(...options, `${host}/team/quick:1`);
      expect(again).toMatchObject({ unchanged: false, gearDigest: first.gearDigest, indexDigest: first.indexDigest });
    }
  });

  it('writes a missing Gear image again without fetching a layer', async () => {
    const first = await bench.convert(`${host}/team/quick:1`);
    const { layers } = await manifestOf('team/quick:1');
    const before = bench.registry.requests().length;
    const other = await bench.convert(`${host}/team/quick:1`, `${host}/another/place:2`);
    expect(other).toMatchObject({
      unchanged: false,
      gearDigest: first.gearDigest,
      destination: `docker://${host}/another/place:2`,
    });
    expect(await manifestDigest(`docker://${host}/another/place:2`)).toBe(first.gearDigest);
    const paths = bench.registry
      .requests()
      .slice(before)
      .map(({ path }) => path);
    expect(paths.filter((path) => layers.some(({ digest }) => path.includes(digest)))).toEqual([]);
  });

  it('converts an image of known layers without fetching them', async () => {
    await bench.convert(`${host}/team/quick:1`);
    const image = quickImage();
    const { layers } = await pushImage({ ...image, config: { Cmd: ['other'] } }, `docker://${host}/team/other:1`);
    const before = bench.registry.requests().length;
    const result = await bench.convert(`${host}/team/other:1`);
    expect(result.unchanged).toBe(false);
    const paths = bench.registry
      .requests()
      .slice(before)
      .map(({ path }) => path);
    expect(paths.filter((path) => layers.some(({ digest }) => path.includes(digest)))).toEqual([]);
  });

  it('fetches and converts only the layers that are new', async () => {
    const first = await bench.convert(`${host}/team/quick:1`);
    const image = quickImage();
    const layers = [...image.layers, { tar: archive(file('new', 'the only new file')) }];
    const written = await pushImage({ ...image, layers }, `docker://${host}/team/grown:1`);
    const before = bench.registry.requests().length;
    // In folders of two letters.
    const objects = async () =>
      (await readdir(join(bench.manager.root, 'objects'), { recursive: true })).filter((name) => name.includes('/'));
    const objectsBefore = (await objects()).length;
    const result = await bench.convert(`${host}/team/grown:1`);
    expect(result.layers.slice(0, 3)).toEqual(first.layers);
    expect(await objects()).toHaveLength(objectsBefore + 1);
    const fetched = bench.registry
      .requests()
      .slice(before)
      .filter(({ method }) => method === 'GET');
    const counts = written.layers.map(({ digest }) => fetched.filter(({ path }) => path.includes(digest)).length);
    expect(counts).toEqual([0, 0, 0, 1]);
    expect(await bench.convert('--force', `${host}/team/grown:1`)).toMatchObject({ indexDigest: result.indexDigest });
  });

  it('uses the index of a layer again that comes in another compression, once that is verified', async () => {
    const image = quickImage('recompressed');
    const first = await bench.convert((await writeOciLayout(join(bench.folder, 'packed'), image)).reference);
    const layers = image.layers.map((layer) => ({ ...layer, compression: 'zstd' as const }));
    const other = await writeOciLayout(join(bench.folder, 'packed-otherwise'), { ...image, layers });
    expect(await bench.convert(other.reference)).toMatchObject({ unchanged: false, indexDigest: first.indexDigest });
    const top = other.layers[2]!.digest.slice('sha256:'.length);
    const path = join(other.folder, 'blobs/sha256', top);
    await writeFile(path, (await readFile(path)).subarray(0, -1));
    const changed = await writeOciLayout(join(bench.folder, 'packed-otherwise-2'), {
      ...image,
      layers,
      config: { Cmd: ['new'] },
    });
    await cp(path, join(changed.folder, 'blobs/sha256', top));
    const layered = await bench.run('convert', '--force', changed.reference);
    expect(layered).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(top) });
  });

  it('does not use the index of a layer above other layers when it has links below', async () => {
    const [lower, upper] = strangeLayers();
    const more = { tar: archive(file('more', 'more')) };
    const two = await writeOciLayout(join(bench.folder, 'links-2'), { layers: [lower!, upper!] });
    const three = await writeOciLayout(join(bench.folder, 'links-3'), { layers: [lower!, upper!, more] });
    await bench.convert(two.reference);
    const result = await bench.convert(three.reference);
    expect(result.warnings).toEqual([expect.stringMatching(/^layer 1 of 3: .*attributes of overlayfs itself/)]);
    expect(await bench.convert('--force', three.reference)).toMatchObject({ indexDigest: result.indexDigest });
  });

  it('leaves the Gear image out with --no-push', async () => {
    await pushImage(quickImage('unpublished'), `docker://${host}/team/unpublished:1`);
    expect(await bench.convert('--no-push', `${host}/team/unpublished:1`)).toMatchObject({
      destination: '',
      gearDigest: null,
    });
    const answer = await fetch(`http://${host}/v2/team/unpublished-gear/manifests/1`);
    await answer.body?.cancel();
    expect(answer.status).toBe(404);
    expect(await bench.convert('--no-push', `${host}/team/unpublished:1`)).toMatchObject({ unchanged: true });
  });

  it('takes layouts and archives of this machine, and writes layouts', async () => {
    const written = await writeOciLayout(join(bench.folder, 'layout'), quickImage('layout'));
    const fromLayout = await bench.convert(written.reference);
    expect(fromLayout).toMatchObject({
      sourceDigest: written.manifestDigest,
      destination: `oci:${bench.folder}/layout-gear:latest`,
    });
    expect(await manifestDigest(fromLayout.destination)).toBe(fromLayout.gearDigest);
    expect(await bench.convert(written.reference)).toMatchObject({ unchanged: true });

    const path = join(bench.folder, 'image.tar');
    await copyImage(written.reference, `docker-archive:${path}:app:1`);
    const refused = await bench.run('convert', `docker-archive:${path}`);
    expect(refused).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("give the Gear image's destination"),
    });
    const archived = await bench.convert(`docker-archive:${path}:app:1`, `${host}/team/archived:1`);
    expect(archived.indexDigest).toBe(fromLayout.indexDigest);
    expect(await bench.convert(`docker-archive:${path}:app:1`, `${host}/team/archived:1`)).toMatchObject({
      unchanged: true,
    });
    await rm(path);
  });

  it('converts layers of every compression to the same index', async () => {
    const image = quickImage('compressions');
    const [first, ...rest] = (['gzip', 'zstd', 'none'] as const).map((compression) => ({
      ...image,
      layers: image.layers.map((layer) => ({ ...layer, compression })),
    }));
    const digests: string[] = [];
    for (const [i, each] of [first!, ...rest].entries()) {
      const { reference } = await writeOciLayout(join(bench.folder, `compression-${i}`), each);
      digests.push((await bench.convert('--force', reference)).indexDigest);
    }
    expect(new Set(digests).size).toBe(1);
  });

  it('chooses from a multi-arch list, and says what there is', async () => {
    const platforms = [
      { os: 'linux', architecture: 'amd64' },
      { os: 'linux', architecture: 'arm64', variant: 'v8' },
      { os: 'unknown', architecture: 'unknown' },
    ];
    const manifests: object[] = [];
    for (const platform of platforms) {
      const name = `docker://${host}/team/many:${platform.architecture}`;
      const { manifestDigest: digest } = await pushImage({ ...quickImage(platform.architecture), top: platform }, name);
      manifests.push({ mediaType: MANIFEST, digest, size: (await rawManifest(name)).length, platform });
    }
    const put = await fetch(`http://${host}/v2/team/many/manifests/1`, {
      method: 'PUT',
      headers: { 'content-type': 'application/vnd.oci.image.index.v1+json' },
      body: JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests }),
    });
    expect(put.status).toBe(201);
    const arm = await bench.convert('--platform', 'linux/arm64', `${host}/team/many:1`, `${host}/team/many-gear:arm`);
    expect(arm).toMatchObject({
      platform: 'linux/arm64/v8',
      sourceDigest: (manifests[1] as { digest: string }).digest,
    });
    const amd = await bench.convert('--local', '--platform', 'linux/amd64', `${host}/team/many:1`);
    expect(amd).toMatchObject({ platform: 'linux/amd64', sourceDigest: (manifests[0] as { digest: string }).digest });
    expect(amd.indexDigest).not.toBe(arm.indexDigest);
    const none = await bench.run('convert', '--platform', 'linux/s390x', `${host}/team/many:1`);
    expect(none).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('no image for linux/s390x; there is linux/amd64, linux/arm64/v8'),
    });
    const single = await bench.run('convert', '--platform', 'linux/s390x', `${host}/team/many:arm64`);
    expect(single).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('no image for linux/s390x; there is linux/arm64/v8'),
    });
  });

  it("takes images in Docker's own format, and one without any layer", async () => {
    const image = quickImage('schema2');
    const { reference } = await writeOciLayout(join(bench.folder, 'to-schema2'), image);
    const name = `docker://${host}/team/schema2:1`;
    await execa('skopeo', ['copy', '--quiet', '--format=v2s2', '--dest-tls-verify=false', reference, name]);
    expect((await manifestOf('team/schema2:1')).mediaType).toBe('application/vnd.docker.distribution.manifest.v2+json');
    const [docker, oci] = [await bench.convert(name), await bench.convert('--force', reference)];
    expect(docker.indexDigest).toBe(oci.indexDigest);

    const nothing = await writeOciLayout(join(bench.folder, 'nothing'), { layers: [] });
    expect(await bench.convert(nothing.reference)).toMatchObject({ entries: 1, objects: 0, layers: [] });
  });

  it('refuses what is a Gear image already', async () => {
    await bench.convert(`${host}/team/quick:1`);
    const outcome = await bench.run('convert', `${host}/team/quick-gear:1`);
    expect(outcome).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('already is a Gear image') });
  });

  it('leaves nothing behind when it is interrupted, here or in the manager', async () => {
    const files = Array.from({ length: 40 }, (_, i) => file(`file-${i}`, noise(4_000_000, i + 1)));
    const image = { layers: [{ tar: archive(...files), compression: 'none' as const }] };
    const { reference } = await writeOciLayout(join(bench.folder, 'large'), image);
    expect(await interruptedAt('converting', bench, ['convert', reference])).toBe(130);
    expect(await bench.leftovers()).toEqual([]);
    await expect(readFile(join(bench.folder, 'large-gear', 'index.json'))).rejects.toThrow('ENOENT');

    await copyImage(reference, `docker://${host}/team/large:1`);
    expect(await interruptedAt('fetching', bench, ['convert', `${host}/team/large:1`])).toBe(130);
    await until('the manager has given up', async () => (await bench.leftovers()).length === 0);
    expect(
      (await bench.run('export', `${host}/team/large-gear:1`, 'docker-archive:/nonexistent/x.tar')).stderr,
    ).toContain('unknown');
    expect(await bench.convert(`${host}/team/large:1`)).toMatchObject({ unchanged: false });
  });
});

/** Runs a command, interrupts it as soon as it says `word`, and gives its exit code. */
async function interruptedAt(
  word: string,
  bench: ConvertBench,
  [command = '', ...args]: readonly string[],
): Promise<number | undefined> {
  const options = ['--manager', bench.manager.address, '--scratch', join(bench.folder, 'scratch')];
  const child = execa(launcher, [command, ...options, ...args], { reject: false, stdin: 'ignore', timeout: 60_000 });
  for await (const line of child.iterable({ from: 'stderr' })) if (line.includes(word)) child.kill('SIGINT');
  return (await child).exitCode;
}
