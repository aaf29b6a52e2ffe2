import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { type ImageDescription, type WrittenImage, writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { imageConfig, manifestDigest } from '../../deploy/sandbox/skopeo.ts';
import { hostileImage } from '../images/hostile.ts';
import { quickImage } from '../images/quick.ts';
import { archive, directory, file, whiteout } from '../images/tar-bytes.ts';
import { type ConvertBench, startConvertBench } from '../support/convert.ts';
import { diffTrees, type TreeManifest, treeOf } from '../support/tree.ts';
import { umociUnpack } from '../support/umoci.ts';

/** Without folders that are only implied: umoci lets those keep their metadata, Docker does not, and Gear does as Docker. */
function plainImage(): ImageDescription {
  const image = quickImage();
  return { ...image, layers: image.layers.slice(0, 2) };
}

describe('gear export', () => {
  const stack = new AsyncDisposableStack();
  let bench: ConvertBench;
  let number = 0;
  const place = (name: string) => join(bench.folder, `${name}-${number++}`);

  beforeAll(async () => {
    bench = stack.use(await startConvertBench());
  });
  afterAll(() => stack.disposeAsync());

  const tree = async (folder: string, tag = 'latest'): Promise<TreeManifest> => {
    const bundle = place('bundle');
    try {
      return await treeOf(await umociUnpack(folder, tag, bundle));
    } finally {
      await rm(bundle, { recursive: true, force: true });
    }
  };

  const exported = async (source: string, destination: string) => {
    const { exitCode, stderr } = await bench.run('export', source, destination);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  };

  /** Converts an image and exports the Gear image; gives the original's layout and the new one. */
  async function roundTrip(image: ImageDescription): Promise<{ original: WrittenImage; folder: string; gear: string }> {
    const original = await writeOciLayout(place('original'), image);
    const gear = `oci:${place('gear')}:latest`;
    await bench.convert(original.reference, gear);
    const folder = place('exported');
    await exported(gear, `oci:${folder}:latest`);
    return { original, folder, gear };
  }

  it.each([
    ['an ordinary image', plainImage()],
    ['a hostile image', hostileImage()],
  ])('gives back %s: the same tree, entry by entry', async (_name, image) => {
    const { original, folder } = await roundTrip(image);
    const before = await tree(original.folder);
    expect(before.size).toBeGreaterThan(100);
    expect(diffTrees(before, await tree(folder))).toEqual([]);
  });

  it('gives back the same config, but for rootfs and history', async () => {
    const { original, folder } = await roundTrip(quickImage());
    const [before, after] = [await imageConfig(original.reference), await imageConfig(`oci:${folder}:latest`)];
    expect({ ...after, rootfs: undefined, history: undefined }).toEqual({
      ...before,
      rootfs: undefined,
      history: undefined,
    });
    expect(Object.keys(after)).toEqual(Object.keys(before));
    expect(after['history']).toEqual([
      { created: '2024-05-06T07:08:09.123456789Z', created_by: `gear export ${original.manifestDigest}` },
    ]);
  });

  it('gives the same image every time', async () => {
    const { folder, gear } = await roundTrip(quickImage());
    const again = place('again');
    await exported(gear, `oci:${again}:latest`);
    expect(await manifestDigest(`oci:${again}:latest`)).toBe(await manifestDigest(`oci:${folder}:latest`));
  });

  it('comes out in a registry, in an archive, and converts to the same index again', async () => {
    const { original, gear } = await roundTrip(quickImage());
    const registry = `${bench.registry.host}/team/exported:1`;
    await exported(gear, registry);
    const path = place('archive.tar');
    await exported(gear, `docker-archive:${path}:app:1`);
    const before = await bench.convert('--no-push', original.reference);
    const [fromRegistry, fromArchive] = [
      await bench.convert('--no-push', registry),
      await bench.convert('--no-push', `docker-archive:${path}:app:1`),
    ];
    expect(fromRegistry.indexDigest).toBe(before.indexDigest);
    expect(fromArchive.indexDigest).toBe(before.indexDigest);
    const second = await bench.run('export', gear, `docker-archive:${path}:app:1`);
    expect(second).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('an archive is written once') });
  });

  it('keeps the layers of an image that was built on a Gear image', async () => {
    const image = plainImage();
    const more = {
      tar: archive(
        directory('etc/'),
        file('etc/child', 'of the child'),
        directory('data/'),
        whiteout('data', 'big'),
        directory('data/small/', { uid: 1000, gid: 1000 }),
        file('data/small/0001', 'changed'),
      ),
    };
    const original = await writeOciLayout(place('original'), { ...image, layers: [...image.layers, more] });
    const { gear } = await roundTrip(image);
    const child = await onTop(gear.slice('oci:'.length, -':latest'.length), more.tar, place('child'));
    const folder = place('exported');
    await exported(child, `oci:${folder}:latest`);
    expect(diffTrees(await tree(original.folder), await tree(folder))).toEqual([]);
    const config = await imageConfig(`oci:${folder}:latest`);
    expect(config['history']).toMatchObject([
      { created_by: expect.stringMatching(/^gear export sha256:/) },
      { created_by: 'child' },
    ]);
    const refused = await bench.run('convert', child, `oci:${place('x')}:latest`);
    expect(refused).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('is built on one') });
  });

  it('refuses an ordinary image by name', async () => {
    const { reference } = await writeOciLayout(place('ordinary'), quickImage());
    const folder = place('out');
    const outcome = await bench.run('export', reference, `oci:${folder}:latest`);
    expect(outcome).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('is not a Gear image') });
    await expect(readdir(folder)).rejects.toThrow('ENOENT');
    expect(await bench.leftovers()).toEqual([]);
  });

  it('says which object the manager lacks or has damaged, and leaves nothing', async () => {
    const image = { layers: [{ tar: archive(file('only', 'the only file of this image')) }] };
    const { gear } = await roundTrip(image);
    const hex = digestOf(Buffer.from('the only file of this image'));
    const path = join(bench.manager.root, 'objects', hex.slice(0, 2), hex.slice(2));
    const folder = place('out');
    await writeFile(path, 'other bytes, as many as before');
    const damaged = await bench.run('export', gear, `oci:${folder}:latest`);
    expect(damaged).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(hex) });
    await rm(path);
    const missing = await bench.run('export', gear, `oci:${folder}:latest`);
    expect(missing).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(hex) });
    await expect(readdir(folder)).rejects.toThrow('ENOENT');
    expect(await bench.leftovers()).toEqual([]);
  });
});

interface Json {
  readonly [key: string]: unknown;
}

/** Writes a layout with the image of another one and one more layer, as `docker build` would make it. Gives its reference. */
async function onTop(gearFolder: string, tar: Buffer, folder: string): Promise<string> {
  const blobs = join(folder, 'blobs/sha256');
  await cp(gearFolder, folder, { recursive: true });
  const read = async (digest: string) => JSON.parse(await readFile(join(blobs, digest.slice(7)), 'utf8')) as Json;
  const put = async (bytes: Buffer | string) => {
    const digest = digestOf(Buffer.from(bytes));
    await writeFile(join(blobs, digest), bytes);
    return { digest: `sha256:${digest}`, size: Buffer.byteLength(bytes) };
  };
  const index = JSON.parse(await readFile(join(folder, 'index.json'), 'utf8')) as { manifests: { digest: string }[] };
  const entry = index.manifests[0]!;
  const manifest = (await read(entry.digest)) as { config: { digest: string }; layers: object[] } & Json;
  const config = (await read(manifest.config.digest)) as { rootfs: { diff_ids: string[] }; history: object[] } & Json;
  const layer = await put(gzipSync(tar));
  const rootfs = { ...config.rootfs, diff_ids: [...config.rootfs.diff_ids, `sha256:${digestOf(tar)}`] };
  const history = [...config.history, { created_by: 'child' }];
  const written = await put(JSON.stringify({ ...config, rootfs, history }));
  const layers = [...manifest.layers, { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', ...layer }];
  const changed = await put(JSON.stringify({ ...manifest, config: { ...manifest.config, ...written }, layers }));
  await writeFile(join(folder, 'index.json'), JSON.stringify({ ...index, manifests: [{ ...entry, ...changed }] }));
  return `oci:${folder}:latest`;
}
