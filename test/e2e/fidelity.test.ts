import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import type { DockerClient } from '../../deploy/sandbox/docker.ts';
import { type Dockerd, startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { copyImage } from '../../deploy/sandbox/skopeo.ts';
import { debianImage } from '../images/debian.ts';
import { hostileImage, strangeLayers } from '../images/hostile.ts';
import { pushImage } from '../images/quick.ts';
import { type Cluster, convertImage, type GearNode, startCluster } from '../support/cluster.ts';
import { dropPageCache } from '../support/page-cache.ts';
import { diffTrees, type TreeManifest, treeOf } from '../support/tree.ts';
import { umociUnpack } from '../support/umoci.ts';

// What the engine itself puts into a container.
const ENGINE = ['proc', 'sys', 'dev', 'etc/hosts', 'etc/hostname', 'etc/resolv.conf', 'etc/mtab', '.dockerenv'];
/** Overlay2 shows the link count of the inode in the lower layer, whose other name a higher layer replaced; flattened, it has one name. */
const LOWER_COUNT = '"change/hard-2": nlink';

/** The tree of a running container of an image, seen from outside. */
async function containerTree(docker: DockerClient, image: string): Promise<TreeManifest> {
  const id = await docker.run(['run', '--detach', '--network=none', image, 'sleep', '1000']);
  try {
    const merged = (await docker.inspect(id)).GraphDriver.Data?.['MergedDir'];
    if (merged === undefined) throw new Error(`${image}: no MergedDir`);
    await dropPageCache();
    return await seen(merged);
  } finally {
    await docker.run(['rm', '--force', id]);
  }
}

async function seen(root: string): Promise<TreeManifest> {
  const tree = await treeOf(root, { without: ENGINE });
  // Its time is that of the container's own layer.
  tree.delete('');
  // Likewise: the engine puts its own files into the folder. All that the image has in it is compared.
  const etc = tree.get('etc');
  if (etc === undefined) throw new Error(`${root} has no /etc`);
  tree.set('etc', { ...etc, mtime: 0n });
  return tree;
}

/** What a tree has below a folder. */
function namesIn(tree: TreeManifest, folder: string): string[] {
  return [...tree.keys()].filter((path) => path.startsWith(`${folder}/`)).map((path) => path.slice(folder.length + 1));
}

describe('an image looks the same through Gear, through overlay2 and unpacked by umoci', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let node: GearNode;
  /** As on a kernel whose overlay has no data-only layers. */
  let older: GearNode;
  let plain: Dockerd;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    node = await cluster.node();
    older = await cluster.node({ driver: { args: ['--index-format', 'tree'] } });
    plain = stack.use(await startDockerd());
  });
  afterAll(() => stack.disposeAsync());

  it('the hostile image', async () => {
    await using folder = await temporaryFolder();
    const written = await writeOciLayout(join(folder.path, 'layout'), hostileImage());
    const name = `${cluster.registry.host}/hostile`;
    await copyImage(written.reference, `docker://${name}:1`, { preserveDigests: true });
    await convertImage(cluster.manager, `docker://${name}:1`, `docker://${name}-gear:1`);
    const unpacked = await seen(await umociUnpack(written.folder, 'latest', join(folder.path, 'bundle')));
    const overlay2 = await containerTree(plain.docker, `${name}:1`);
    const gear = await containerTree(node.docker, `${name}-gear:1`);
    expect(unpacked.size).toBeGreaterThan(1600);
    expect(namesIn(unpacked, 'etc')).toEqual(['alternatives', 'alternatives/awk', 'passwd', 'shadow']);
    expect(diffTrees(unpacked, gear)).toEqual([]);
    expect(diffTrees(overlay2, gear).filter((line) => !line.startsWith(LOWER_COUNT))).toEqual([]);
    expect(diffTrees(gear, await containerTree(older.docker, `${name}-gear:1`))).toEqual([]);
  });

  it('Debian', async () => {
    await using folder = await temporaryFolder();
    const { layout, reference } = await debianImage();
    const name = `${cluster.registry.host}/debian`;
    await copyImage(reference, `docker://${name}:1`, { preserveDigests: true });
    await convertImage(cluster.manager, `docker://${name}:1`, `docker://${name}-gear:1`);
    const unpacked = await seen(await umociUnpack(layout, 'latest', join(folder.path, 'bundle')));
    const overlay2 = await containerTree(plain.docker, `${name}:1`);
    const gear = await containerTree(node.docker, `${name}-gear:1`);
    expect(unpacked.size).toBeGreaterThan(5000);
    expect(namesIn(unpacked, 'etc')).toEqual(
      expect.arrayContaining(['passwd', 'shadow', 'os-release', 'apt/apt.conf.d']),
    );
    expect(namesIn(unpacked, 'etc').length).toBeGreaterThan(100);
    expect(diffTrees(unpacked, gear)).toEqual([]);
    expect(diffTrees(overlay2, gear)).toEqual([]);
  });

  it('what Docker itself cannot apply is right in Gear', async () => {
    const name = `${cluster.registry.host}/strange`;
    await pushImage({ layers: strangeLayers(), config: {} }, `docker://${name}:1`);
    await convertImage(cluster.manager, `docker://${name}:1`, `docker://${name}-gear:1`);
    const tree = await containerTree(node.docker, `${name}-gear:1`);
    const at = (path: string) => {
      const entry = tree.get(path);
      if (entry === undefined) throw new Error(`${path} is missing; there are ${[...tree.keys()].join(', ')}`);
      return entry;
    };
    expect(at('implied/parents/of/this').size).toBe('no entry names its folders'.length);
    expect(at('implied/parents')).toMatchObject({ type: 'directory', mode: 0o755, uid: 0, gid: 0 });
    expect(at('twice')).toMatchObject({ mode: 0o644, size: 'the second wins'.length });
    expect(at('links/target')).toMatchObject({ nlink: 2, mode: 0o640, uid: 3, sameAs: 'links/before' });
    expect(at('links/upper')).toMatchObject({ nlink: 2, mode: 0o604, gid: 4, sameAs: 'links/lower' });
    expect(at('before-1970').mtime).toBe(-12_345_250_000_000n);
    expect([...tree.keys()].filter((path) => path.includes('.wh.'))).toEqual([]);
    expect(at('same/after').size).toBe('the same layer has the name and, later, its whiteout'.length);
    expect(at('same/in-lower').size).toBe('upper'.length);
    expect(at('ordered-file')).toMatchObject({ size: 'its own bytes'.length, xattrs: { 'user.kept': '796573' } });
    expect(Object.keys(at('ordered-file').xattrs)).toEqual(['user.kept']);
    expect(at('ordered-folder/child').type).toBe('file');
    expect(at('old-sparse').size).toBe(8192);
  });
});
