import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { mountPoints, temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import type { Outcome } from '../../deploy/sandbox/docker.ts';
import { gear, launcher, startManager } from '../../deploy/sandbox/gear.ts';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { RunningProcess } from '../../deploy/sandbox/process.ts';
import { loadImage, loadSums, pushImage, quickImage, smallContent } from '../images/quick.ts';
import { archive, directory, entry, file, hardLink, noise } from '../images/tar-bytes.ts';
import { type Cluster, type GearNode, type PublishedImage, startCluster, startNode } from '../support/cluster.ts';
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

  it.each(['a/b', '../up', '/absolute', '..', '', 'a\0b'])('the id %j', async (id) => {
    for (const method of ['Create', 'CreateReadWrite', 'Get', 'Remove', 'Put', 'DiffSize']) {
      const { Err } = await call(node.driver.socket, method, { ID: id, Parent: '' });
      expect(Err, method).toMatch(/./);
    }
    expect(await stat(join(node.dockerd.dataRoot, 'up')).catch(() => undefined)).toBeUndefined();
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

  it('a kernel without FUSE', async () => {
    await using folder = await temporaryFolder();
    const root = join(folder.path, 'root');
    const script = 'mount --bind /dev/null /dev/fuse && exec "$0" driver --root "$1" --socket "$2"';
    const args = ['--mount', 'sh', '-c', script, launcher, root, join(folder.path, 'driver.sock')];
    await using driver = await RunningProcess.start({ name: 'driver', command: 'unshare', args });
    expect(await driver.ended()).toBe(1);
    expect(driver.output).toMatch(/fuse/i);
    expect(mountPoints().filter(({ path }) => path.startsWith(root))).toEqual([]);
  });
});
