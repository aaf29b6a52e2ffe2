import { mkdtemp, readdir, rm, statfs, writeFile } from 'node:fs/promises';
import { execa } from 'execa';
import { expect, it, onTestFinished } from 'vitest';
import { sleep } from '#core/abort.ts';
import { digestOf } from '#core/digest.ts';
import { isGearError } from '#core/errors.ts';
import { connect } from '#core/grpc/client.ts';
import { encodeIndex } from '#core/index/encode.ts';
import { silentLogger } from '#core/log.ts';
import { ImagesService } from '#proto/gen/gear/v1/images.ts';
import { addImage, randomContents, recordOf, treeOf } from '../../manager/catalog/testing.ts';
import { imageToWire } from '../../manager/converter/image-wire.ts';
import { startManager as startInProcess } from '../../manager/manager.ts';
import { randomObject } from '../../manager/store/testing.ts';
import { rangeOf, read, readMany, testConfig, upload, uploadOf } from '../../manager/testing.ts';
import { gear, startManager } from '../support/gear.ts';

/** A small filesystem of its own, which goes with the test. */
async function smallDisk(options: string): Promise<string> {
  const folder = await mkdtemp('/tmp/gear-');
  await execa('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder]);
  onTestFinished(async () => {
    await execa('umount', ['-l', folder]);
    await rm(folder, { recursive: true, force: true });
  });
  return folder;
}

const neverConverts = async () => {
  throw new Error('nothing is converted here');
};

/** Leaves no room on a disk. */
async function fill(folder: string): Promise<string> {
  const path = `${folder}/ballast`;
  const { bavail, bsize } = await statfs(folder);
  await writeFile(path, Buffer.alloc(bavail * bsize)).catch(() => {});
  return path;
}

it.each([
  ['bytes', 'size=24m', [...Array(40)].map(() => 1_000_000)],
  ['bytes, by large objects', 'size=24m', [8_000_000, 8_000_000, 8_000_000, 8_000_000]],
  ['inodes', 'size=24m,nr_inodes=800', [...Array(2000)].map((_, at) => 100 + at)],
])('says that the disk is full (%s), keeps what it has, and leaves nothing behind', async (_what, options, sizes) => {
  const root = await smallDisk(options);
  await using manager = await startInProcess({ config: testConfig(root), log: silentLogger(), convert: neverConverts });
  using connection = connect(manager.addresses.grpc);
  const before = randomContents(20);
  await upload(connection, uploadOf(before));
  const much = sizes.map((size) => randomObject(size).bytes);
  await expect(upload(connection, uploadOf(much))).rejects.toMatchObject({
    code: 'resource-exhausted',
    message: expect.stringContaining(root),
  });
  expect(await readdir(manager.store.layout.tmp)).toEqual([]);
  for (const bytes of before) expect(await read(connection, rangeOf(bytes))).toEqual(bytes);
  // There is room again for what fits.
  await upload(connection, uploadOf(much.slice(0, 2)));
});

it('says that the disk is full for indexes, records and health too, and recovers', async () => {
  const root = await smallDisk('size=24m');
  await using manager = await startInProcess({ config: testConfig(root), log: silentLogger(), convert: neverConverts });
  using connection = connect(manager.addresses.grpc);
  const contents = randomContents(2000);
  await upload(connection, uploadOf(contents));
  const known = await manager.store.putIndex(encodeIndex(treeOf(contents)));
  const health = async () => await fetch(`http://${manager.addresses.http}/healthz`);
  expect((await health()).status).toBe(200);

  const ballast = await fill(root);
  const full = { code: 'resource-exhausted', message: expect.stringContaining(root) };
  async function* pieces() {
    yield { data: encodeIndex(treeOf(contents.slice(1))) };
  }
  await expect(connection.clientStream(ImagesService.putIndex, pieces())).rejects.toMatchObject(full);
  const image = imageToWire(recordOf('docker://app', known));
  await expect(connection.unary(ImagesService.put, image)).rejects.toMatchObject(full);
  const { status } = await health();
  expect(status).toBe(503);
  expect(await (await health()).json()).toMatchObject({ status: 'failed', error: expect.stringContaining('full') });

  await rm(ballast);
  await connection.clientStream(ImagesService.putIndex, pieces());
  await connection.unary(ImagesService.put, image);
  expect((await health()).status).toBe(200);
  expect(manager.store.totals()).toMatchObject({ images: 1, indexes: 2 });
});

it('keeps every acknowledged object, and nothing half written, when it is killed while it writes', async () => {
  await using manager = await startManager({ args: ['--log-level', 'warn'] });
  const acknowledged: Buffer[] = [];
  for (let round = 0; round < 4; round++) {
    using connection = connect(manager.address);
    const write = async () => {
      for (;;) {
        const contents = [...randomContents(300), randomObject(1_500_000).bytes];
        await upload(connection, uploadOf(contents));
        acknowledged.push(...contents);
        const indexes = async function* () {
          yield { data: encodeIndex(treeOf(contents.slice(0, 300))) };
        };
        const { digest } = await connection.clientStream(ImagesService.putIndex, indexes(), { timeout: 30_000 });
        const record = recordOf(
          `docker://app:${acknowledged.length}`,
          digestOf(encodeIndex(treeOf(contents.slice(0, 300)))),
        );
        expect(digest).toContain(record.indexDigest);
        await connection.unary(ImagesService.put, imageToWire(record), { timeout: 30_000 });
      }
    };
    const writers = [write(), write()].map(async (writer) => await writer.catch((error: unknown) => error));
    await sleep(1000 + Math.random() * 1500);
    await manager.kill();
    for (const error of await Promise.all(writers)) expect(isGearError(error, 'unavailable', 'cancelled')).toBe(true);
    await manager.start();
    expect(await readdir(`${manager.root}/tmp`)).toEqual([]);
    using again = connect(manager.address);
    const sample = acknowledged.filter((_, at) => at % 50 === 0);
    const answers = await readMany(again, [sample.map((bytes) => rangeOf(bytes))]);
    expect(answers.map(({ bytes }) => digestOf(bytes))).toEqual(sample.map(digestOf));
  }
  expect(acknowledged.length).toBeGreaterThan(300);
  await manager.stop();
  const { exitCode, stdout } = await gear(['manager', '--root', manager.root, '--verify', '--log-level', 'warn']);
  expect(stdout).toMatch(/^\d+ objects \(.*\) and \d+ indexes are whole\.$/);
  expect(exitCode).toBe(0);
});

it('does not mind a killed manager’s lock, and names a living one', async () => {
  await using manager = await startManager({ args: ['--log-level', 'warn'] });
  await manager.kill();
  await manager.start();
  const second = await gear(['manager', '--root', manager.root, '--listen', '127.0.0.1:0']);
  expect(second.exitCode).toBe(1);
  expect(second.stderr).toMatch(/another manager \(process \d+\) works in .*--root/);
});

it('makes the same catalogue again with --rebuild', async () => {
  await using manager = await startManager({ args: ['--log-level', 'warn'] });
  using connection = connect(manager.address);
  const list = async () =>
    await connection.unary(ImagesService.list, { pageSize: 100, pageToken: '' }, { timeout: 10_000 });
  await manager.stop();
  {
    const config = testConfig(manager.root);
    await using local = await startInProcess({ config, log: silentLogger(), convert: neverConverts });
    for (let at = 0; at < 5; at++) {
      await addImage(local.store, `docker://app:${at}`, randomContents(50), { convertedAt: at });
    }
  }
  await manager.start();
  const before = await list();
  expect(before.images).toHaveLength(5);
  await manager.stop();
  await rm(`${manager.root}/catalog.sqlite`);
  await manager.start(['--rebuild']);
  expect(await list()).toEqual(before);
});
