import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { parseDescriptor } from '#core/index/descriptor.ts';
import { mountPoints, temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import type { Outcome } from '../../deploy/sandbox/docker.ts';
import { gear, launcher, startManager } from '../../deploy/sandbox/gear.ts';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { RunningProcess } from '../../deploy/sandbox/process.ts';
import { loadImage, loadSums, pushImage, quickImage, smallContent } from '../images/quick.ts';
import { archive, directory, entry, file, hardLink, noise } from '../images/tar-bytes.ts';
import { type Cluster, type GearNode, type PublishedImage, startCluster, startNode } from '../support/cluster.ts';
import { flipBit, type GearFiles, gearFilesIn, gearLayer } from '../support/gear-image.ts';
import { fillDisk, smallDisk } from '../support/small-disk.ts';

describe('bad input to the manager', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
  });
  afterAll(() => stack.disposeAsync());

  const convert = async (...args: readonly string[]): Promise<Outcome> =>
    await gear([
      'convert',
      '--manager',
      cluster.manager.address,
      '--insecure-registry',
      cluster.registry.host,
      ...args,
    ]);

  /** Nothing of a failed conversion is kept where it could be taken for an image. */
  const expectNothing = async (name: string): Promise<void> => {
    expect((await gear(['images', '--manager', cluster.manager.address])).stdout).not.toContain(name);
    const left = await readdir(join(cluster.manager.root, 'tmp'), { recursive: true }).catch(() => []);
    expect(left).toEqual([]);
    const answer = await fetch(`http://${cluster.registry.host}/v2/${name}-gear/manifests/1`);
    expect(answer.status).toBe(404);
  };

  it('an unknown reference', async () => {
    const { exitCode, stderr } = await convert(`docker://${cluster.registry.host}/no/such:1`);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`${cluster.registry.host}/no/such`);
    await expectNothing('no/such');
  });

  it('a reference that is none', async () => {
    const { exitCode, stderr } = await convert('docker://UPPER/Case:1');
    expect(exitCode).toBe(2);
    expect(stderr).toContain('UPPER/Case');
  });

  const spoiled: readonly (readonly [what: string, spoil: (bytes: Buffer) => Buffer])[] = [
    ['a truncated layer', (bytes) => bytes.subarray(0, bytes.length / 2)],
    [
      'a layer with a flipped bit',
      (bytes) => Buffer.from(bytes.map((byte, at) => (at === bytes.length - 100 ? byte ^ 4 : byte))),
    ],
    ['a layer that is empty', () => Buffer.alloc(0)],
  ];
  it.each(spoiled)('%s', async (_, spoil) => {
    await using folder = await temporaryFolder();
    const written = await writeOciLayout(join(folder.path, 'layout'), quickImage('spoiled'));
    const digest = written.layers[1]?.digest ?? '';
    const blob = join(written.folder, 'blobs/sha256', digest.slice(7));
    await writeFile(blob, spoil(await readFile(blob)));
    const { exitCode, stderr } = await convert(written.reference, `docker://${cluster.registry.host}/spoiled-gear:1`);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(digest.slice(7, 19));
    await expectNothing('spoiled');
  });

  const refused: readonly (readonly [what: string, tar: Buffer, named: string])[] = [
    ['a path out of the image', archive(file('../../outside', 'x')), 'outside'],
    ['a path that climbs in its middle', archive(file('a/../../outside', 'x')), 'outside'],
    ['a hard link to nothing', archive(hardLink('link', 'nowhere')), 'nowhere'],
    ['a hard link out of the image', archive(hardLink('link', '../../../etc/passwd')), 'passwd'],
    ['a hard link to a folder', archive(directory('folder/'), hardLink('link', 'folder')), 'link'],
    ['an entry of an unknown type', archive(entry({ name: 'odd', type: 'Z' })), 'odd'],
    ['a tar cut inside a file', archive(file('cut', noise(5000, 1))).subarray(0, 2000), 'cut'],
    ['a size larger than what follows', entry({ name: 'huge', size: 8 ** 11 - 1, content: 'x' }), 'huge'],
  ];
  it.each(refused)('%s', async (_, tar, named) => {
    await using folder = await temporaryFolder();
    const written = await writeOciLayout(join(folder.path, 'layout'), { layers: [{ tar }] });
    const { exitCode, stderr } = await convert(written.reference, `docker://${cluster.registry.host}/refused-gear:1`);
    expect(stderr).toContain(named);
    expect(exitCode).toBe(1);
    await expectNothing('refused');
  });

  it('a full disk below the store', async () => {
    await using disk = await smallDisk(12);
    await using manager = await startManager({ insecureRegistries: [cluster.registry.host], place: disk.path });
    await pushImage(loadImage(), `docker://${cluster.registry.host}/too-big:1`);
    await pushImage({ layers: [{ tar: archive(file('small', 'fits')) }] }, `docker://${cluster.registry.host}/small:1`);
    const args = ['convert', '--manager', manager.address];
    const full = await gear([...args, `docker://${cluster.registry.host}/too-big:1`]);
    expect(full.exitCode).toBe(1);
    expect(full.stderr).toMatch(/full|space|ENOSPC/i);
    expect((await gear(['images', '--manager', manager.address])).stdout).not.toContain('too-big');
    expect((await gear([...args, `docker://${cluster.registry.host}/small:1`])).exitCode).toBe(0);
  });

  it('an address where no manager is, and one where something else is', async () => {
    const reference = `docker://${cluster.registry.host}/x:1`;
    const nobody = await gear(['convert', '--manager', '127.0.0.1:1', reference]);
    expect(nobody).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('127.0.0.1:1') });
    const other = await gear(['convert', '--manager', cluster.registry.host, reference]);
    expect(other).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(cluster.registry.host) });
  });

  it('an address, and a root, that another manager uses', async () => {
    await using folder = await temporaryFolder();
    const ports = ['--monitor-listen', '127.0.0.1:0', '--http-listen', '127.0.0.1:0'];
    const root = ['--root', join(folder.path, 'second')];
    const address = await gear(['manager', ...root, '--listen', cluster.manager.address, ...ports]);
    expect(address).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(cluster.manager.address) });
    const same = await gear(['manager', '--root', cluster.manager.root, '--listen', '127.0.0.1:0', ...ports]);
    expect(same).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(cluster.manager.root) });
    expect((await gear(['images', '--manager', cluster.manager.address])).exitCode).toBe(0);
  });
});

/** Calls a graphdriver plugin as dockerd does. */
async function call(socketPath: string, method: string, body: object): Promise<{ Err?: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ Err?: string }>();
  const options = { socketPath, method: 'POST', path: `/GraphDriver.${method}` };
  const calling = request(options, (answer) => {
    answer.setEncoding('utf8');
    let text = '';
    answer.on('data', (piece: string) => {
      text += piece;
    });
    answer.on('end', () => resolve(JSON.parse(text) as { Err?: string }));
  });
  calling.on('error', reject);
  calling.end(JSON.stringify(body));
  return await promise;
}

describe('bad input to the driver', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let node: GearNode;
  let image: PublishedImage;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    image = await cluster.publish('quick:1', quickImage());
    node = await cluster.node();
  });
  afterAll(() => stack.disposeAsync());

  const badIds: readonly (readonly [id: string, wrong: string])[] = [
    ['a/b', 'it contains a slash'],
    ['../up', 'it contains a slash'],
    ['/absolute', 'it contains a slash'],
    ['..', 'it names a folder by its place'],
    ['.', 'it names a folder by its place'],
    ['', 'it is empty'],
    ['a\0b', 'it contains a NUL'],
  ];
  it.each(badIds)('the id %j', async (id, wrong) => {
    for (const method of ['Create', 'CreateReadWrite', 'Get', 'Remove', 'Put', 'DiffSize']) {
      const { Err } = await call(node.driver.socket, method, { ID: id, Parent: '' });
      expect(Err, method).toBe(`layer id ${JSON.stringify(id)} is refused: ${wrong}`);
    }
    expect(await stat(join(node.dockerd.dataRoot, 'up')).catch(() => undefined)).toBeUndefined();
  });

  /** Everything of images and layers that the node has. */
  const keptBy = async (on: GearNode) => {
    const below = async (...path: readonly string[]) => (await readdir(join(...path))).sort();
    const root = on.driver.root;
    return {
      images: (await below(root, 'images')).filter((name) => name !== 'last-slot'),
      private: await below(root, 'private'),
      layers: (await on.status()).homes.map(({ layers }) => layers),
      names: await on.docker.run(['images', '--all', '--no-trunc']),
      mounts: mountPoints().filter(({ path }) => path.startsWith(root) || path.startsWith(on.dockerd.dataRoot)),
    };
  };
  const wrongIndexes: readonly (readonly [
    what: string,
    name: string,
    spoil: (files: GearFiles) => GearFiles,
    said: string,
  ])[] = [
    ['a flipped bit', 'flipped', ({ descriptor, index }) => ({ descriptor, index: flipBit(index) }), 'is damaged'],
    [
      'another size than its descriptor says',
      'cut',
      ({ descriptor, index }) => ({ descriptor, index: index.subarray(0, -1) }),
      'its descriptor says',
    ],
  ];
  it.each(wrongIndexes)('a Gear image whose index has %s', async (what, name, spoil, said) => {
    const right = await cluster.publish(`${name}:1`, quickImage(what));
    const files = await gearFilesIn(right.gear);
    const { digest } = parseDescriptor(files.descriptor).index;
    const spoiled = spoil(files);
    const wrong = `${cluster.registry.host}/${name}-gear:spoiled`;
    await pushImage({ layers: [{ tar: gearLayer(spoiled) }] }, `docker://${wrong}`);
    const before = await keptBy(node);
    const { exitCode, stderr } = await node.docker.attempt(['pull', wrong]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain(`the index of image sha256:${digest} `);
    expect(stderr).toContain(said);
    expect(await keptBy(node)).toEqual(before);
    expect(await node.docker.once(right.gear, ['cat', '/etc/marker'])).toBe(what);
    expect((await keptBy(node)).images).toContain(digest);
  });

  it('a socket that another driver uses', async () => {
    await using folder = await temporaryFolder();
    const root = join(folder.path, 'second');
    const second = await gear(['driver', '--root', root, '--socket', node.driver.socket]);
    const mounts = mountPoints().filter(({ path }) => path.startsWith(root));
    // Whatever the outcome, the test leaves nothing running.
    await gear(['driver', '--root', root, '--shutdown']);
    expect(second).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(node.driver.socket) });
    expect(await node.docker.once(image.gear, ['cat', '/etc/marker'])).toBe('quick');
    expect(mounts).toEqual([]);
  });

  it('a root that another driver uses', async () => {
    await using folder = await temporaryFolder();
    const args = ['driver', '--root', node.driver.root, '--socket', join(folder.path, 'second.sock')];
    expect(await gear(args)).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(node.driver.root) });
    expect(await node.docker.once(image.gear, ['cat', '/data/small/0001'])).toBe(smallContent(1).trimEnd());
  });

  it('a manager that is none: reads fail with EIO at the deadline, and doctor says so', async () => {
    const wrong = { address: cluster.registry.host, monitor: cluster.registry.host };
    await using other = await startNode(wrong, { driver: { args: ['--fetch-deadline', '2'] } });
    await other.docker.run(['pull', image.gear]);
    const { exitCode, stderr } = await other.docker.attempt([
      'run',
      '--rm',
      '--network=none',
      image.gear,
      'cat',
      '/etc/marker',
    ]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/input\/output error/i);
    const doctor = await gear(['doctor', '--manager', cluster.registry.host]);
    expect(doctor.exitCode).not.toBe(0);
    expect(doctor.stdout).toContain(cluster.registry.host);
  });

  it('a full disk below the cache: nothing wrong is read, nothing hangs, and room mends it', async () => {
    const big = await cluster.publish('load:1', loadImage());
    await using disk = await smallDisk(16);
    await using full = await startNode(cluster.manager, {
      driver: { place: disk.path, args: ['--fetch-deadline', '2'] },
    });
    const id = await full.docker.detached(big.gear, ['sleep', '1000']);
    const sums = loadSums();
    const read = async (number: number) =>
      await full.docker.attempt(['exec', id, 'sha256sum', `/load/${String(number).padStart(4, '0')}`]);
    expect((await read(1)).stdout).toBe(sums[1]);
    const ballast = join(disk.path, 'ballast');
    await fillDisk(ballast);
    // The right bytes, from memory, or an error; never other bytes, never a hang.
    for (const number of [60, 61, 120, 121, 180]) {
      const started = performance.now();
      const { exitCode, stdout, stderr } = await read(number);
      if (exitCode === 0) expect(stdout).toBe(sums[number]);
      else expect(stderr).toMatch(/error|space/i);
      expect(performance.now() - started).toBeLessThan(10_000);
    }
    expect((await read(1)).stdout).toBe(sums[1]);
    await rm(ballast);
    await until('a read after there is room', async () => (await read(60)).exitCode === 0, { timeout: 20_000 });
    for (const number of [60, 120, 180]) expect((await read(number)).stdout).toBe(sums[number]);
  });

  // What its driver finds, instead of what this kernel shows.
  const lacking: readonly (readonly [what: string, hidden: string, shown: string | undefined, said: RegExp])[] = [
    ['FUSE', '/dev/fuse', undefined, /fuse/i],
    ['overlayfs', '/proc/filesystems', 'nodev\tfuse\n\text4\n', /no overlayfs.*CONFIG_OVERLAY_FS \(modprobe overlay\)/],
  ];
  it.each(lacking)('a kernel without %s', async (_, hidden, shown, said) => {
    await using folder = await temporaryFolder();
    const root = join(folder.path, 'root');
    const instead = shown === undefined ? '/dev/null' : join(folder.path, 'instead');
    if (shown !== undefined) await writeFile(instead, shown);
    const script = 'mount --bind "$3" "$4" && exec "$0" driver --root "$1" --socket "$2"';
    const socket = join(folder.path, 'driver.sock');
    const args = ['--mount', 'sh', '-c', script, launcher, root, socket, instead, hidden];
    await using driver = await RunningProcess.start({ name: 'driver', command: 'unshare', args });
    expect(await driver.ended()).toBe(1);
    expect(driver.output).toMatch(said);
    expect(mountPoints().filter(({ path }) => path.startsWith(root))).toEqual([]);
    expect(await stat(socket).catch(() => undefined)).toBeUndefined();
  });
});
