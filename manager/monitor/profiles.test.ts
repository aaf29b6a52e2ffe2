import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { until } from '#core/abort.ts';
import { digestFromBytes, digestOf, digestToBytes, ociDigest } from '#core/digest.ts';
import { connect } from '#core/grpc/client.ts';
import { MonitorService, type ReportTouchesRequest } from '#proto/gen/gear/v1/monitor.ts';
import { ContentStoreService, type PrefetchStart } from '#proto/gen/gear/v1/objects.ts';
import { startTestManager, type TestManager, upload, uploadOf } from '../testing.ts';

const CHUNK = 128 * 1024;
const image = digestOf(Buffer.from('an image'));
const zeros = (size: number, seed: string) => Buffer.concat([Buffer.from(seed), Buffer.alloc(size)]).subarray(0, size);
const timeout = 20_000;

function reportOf(
  contents: readonly { readonly bytes: Buffer; readonly chunk?: number }[],
  change: Partial<ReportTouchesRequest> = {},
): ReportTouchesRequest {
  const touches = contents.map(({ bytes, chunk = 0 }, i) => ({
    digest: digestToBytes(digestOf(bytes)),
    chunk,
    milliseconds: i,
  }));
  return { node: 'n', image: ociDigest(image), chunkSize: CHUNK, touches, first: true, complete: true, ...change };
}

/** What Prefetch sends: the plan, and each range's bytes or undefined. */
async function prefetch(at: TestManager, change: Partial<PrefetchStart> = {}, grant = 1 << 24) {
  using exchange = at.connection.exchange(ContentStoreService.prefetch, { timeout });
  const start = { image: ociDigest(image), grant, have: Buffer.alloc(0), partial: [], ...change };
  await exchange.send({ step: { $case: 'start', value: start } });
  let plan: string[] = [];
  const found: (Buffer | undefined)[] = [];
  let wire = 0;
  const lengths: number[] = [];
  for await (const { step } of exchange.answers) {
    if (step?.$case === 'plan') {
      plan = step.value.ranges.map(({ digest, offset }) => `${digestFromBytes(digest)}+${offset}`);
      lengths.push(...step.value.ranges.map(({ length }) => Number(length)));
    }
    if (step?.$case !== 'frame') continue;
    wire += step.value.data.length;
    let bytes = step.value.zstd ? zstdDecompressSync(step.value.data) : step.value.data;
    for (let i = 0; i < step.value.ranges; i++) {
      const length = lengths[found.length] ?? 0;
      found.push(step.value.missing ? undefined : bytes.subarray(0, length));
      bytes = bytes.subarray(length);
    }
    await exchange.send({ step: { $case: 'grant', value: step.value.data.length } }).catch(() => {});
  }
  return { plan, found, wire };
}

async function withProfile() {
  const at = await startTestManager();
  const monitor = connect(at.manager.addresses.monitor);
  const contents = [randomBytes(5_000), zeros(300_000, 'big'), zeros(40_000, 'small'), randomBytes(7)];
  await upload(at.connection, uploadOf(contents));
  return {
    at,
    monitor,
    contents,
    report: async (request: ReportTouchesRequest) =>
      await monitor.unary(MonitorService.reportTouches, request, { timeout }),
    profile: async () => await monitor.unary(MonitorService.getProfile, { image: ociDigest(image) }, { timeout }),
    [Symbol.asyncDispose]: async () => {
      monitor.close();
      await at[Symbol.asyncDispose]();
    },
  };
}

test('what nodes report is what others are sent, in that order, compressed where that pays', async () => {
  await using set = await withProfile();
  const { at, contents } = set;
  const [random, big, small] = contents as [Buffer, Buffer, Buffer];
  await expect(prefetch(at)).rejects.toMatchObject({ code: 'not-found' });
  const unknown = { bytes: Buffer.from('nobody has this') };
  await set.report(reportOf([{ bytes: small }, { bytes: big, chunk: 2 }, unknown, { bytes: random }]));
  await set.report(
    reportOf(
      [
        { bytes: big, chunk: 0 },
        { bytes: big, chunk: 3 },
      ],
      { first: false },
    ),
  );
  const plan = [`${digestOf(small)}+0`, `${digestOf(big)}+0`, `${digestOf(big)}+${2 * CHUNK}`, `${digestOf(random)}+0`];
  const right = (found: readonly (Buffer | undefined)[]) => {
    expect(found).toHaveLength(4);
    expect(found).toContainEqual(small);
    expect(found).toContainEqual(big.subarray(2 * CHUNK));
    expect(found).toContainEqual(random);
  };
  const before = await prefetch(at);
  expect([...before.plan].sort()).toEqual([...plan].sort());
  right(before.found);
  // The same when it was prepared.
  await until('prepared content', async () => (await set.profile()).preparedBytes > 0n, { timeout });
  const after = await prefetch(at);
  expect(after.plan).toEqual(before.plan);
  right(after.found);
  expect(after.wire).toBeLessThan(8_000);
  expect(Number((await set.profile()).preparedBytes)).toBe(after.wire);
  expect((await prefetch(at, {}, 1)).found).toEqual(after.found);
});

test('what the node has is not sent', async () => {
  await using set = await withProfile();
  const { at, contents } = set;
  const [random, big, small] = contents as [Buffer, Buffer, Buffer];
  await set.report(reportOf([{ bytes: small }, { bytes: big, chunk: 0 }, { bytes: big, chunk: 1 }, { bytes: random }]));
  const have = digestToBytes(digestOf(small)).subarray(0, 4);
  const partial = [{ digest: digestToBytes(digestOf(big)), chunks: Buffer.of(0b10) }];
  for (const prepared of [false, true]) {
    if (prepared) await until('prepared content', async () => (await set.profile()).preparedBytes > 0n, { timeout });
    const { plan, found } = await prefetch(at, { have, partial });
    expect(plan).toEqual([`${digestOf(big)}+0`, `${digestOf(random)}+0`]);
    expect(found).toEqual([big.subarray(0, CHUNK), random]);
  }
  expect(
    await prefetch(at, {
      have: Buffer.concat([have, digestToBytes(digestOf(random)).subarray(0, 4)].sort(Buffer.compare)),
      partial,
    }),
  ).toMatchObject({ plan: [`${digestOf(big)}+0`] });
});

test('objects that are gone are said to be, and the rest comes', async () => {
  await using set = await withProfile();
  const { at, contents } = set;
  const [random, , small] = contents as [Buffer, Buffer, Buffer];
  await set.report(reportOf([{ bytes: random }, { bytes: small }]));
  await rm(at.manager.store.layout.object(digestOf(random)));
  await rm(join(at.manager.store.layout.profiles, `${image}.pack`), { force: true });
  expect((await prefetch(at)).found).toEqual([undefined, small]);
});

test('a profile or prepared content that is damaged is none, and is made again', async () => {
  await using set = await withProfile();
  const { at, contents } = set;
  const [random, , small] = contents as [Buffer, Buffer, Buffer];
  await set.report(reportOf([{ bytes: random }, { bytes: small }]));
  await until('prepared content', async () => (await set.profile()).preparedBytes > 0n, { timeout });
  const pack = join(at.manager.store.layout.profiles, `${image}.pack`);
  const good = await readFile(pack);
  for (const damaged of [
    Buffer.alloc(0),
    good.subarray(5),
    Buffer.alloc(good.length, 1),
    good.fill(0xff, good.length - 60, good.length - 20),
  ]) {
    await writeFile(pack, damaged);
    expect((await prefetch(at)).found).toEqual([random, small]);
  }
});

test('a thousand nodes at once: every image has its profile, and memory stays bounded', async () => {
  await using set = await withProfile();
  const { contents } = set;
  const chunks = [0, 1, 2].map((chunk) => ({ bytes: contents[1] as Buffer, chunk }));
  const images = Array.from({ length: 20 }, (_, i) => ociDigest(digestOf(Buffer.from(`image ${i}`))));
  // As large as reports are, of what is not there.
  const stuffing = Array.from({ length: 1_000 }, () => ({ digest: randomBytes(32), chunk: 0, milliseconds: 5 }));
  const before = process.memoryUsage.rss();
  const reports = Array.from({ length: 1_000 }, (_, node) => {
    const report = reportOf(chunks, { node: `node ${node}`, image: images[node % images.length] as string });
    return set.report(node % 10 === 0 ? { ...report, touches: [...report.touches, ...stuffing] } : report);
  });
  await Promise.all(reports);
  expect(process.memoryUsage.rss() - before).toBeLessThan(400 * 1024 * 1024);
  for (const name of images) {
    const profile = await set.monitor.unary(MonitorService.getProfile, { image: name }, { timeout });
    expect(profile.items.map(({ chunk, chosen }) => [chunk, chosen])).toEqual([
      [0, true],
      [1, true],
      [2, true],
    ]);
    expect(profile.runs).toBe(50);
  }
}, 60_000);

test('reports that cannot be are refused', async () => {
  await using set = await withProfile();
  for (const change of [
    { image: 'x' },
    { chunkSize: 0 },
    { chunkSize: 2 ** 31 },
    { touches: [{ digest: Buffer.alloc(3), chunk: 0, milliseconds: 0 }] },
  ]) {
    await expect(set.report(reportOf([], change))).rejects.toMatchObject({ code: 'invalid-argument' });
  }
});

test('a profile survives the manager, and a damaged one is learned anew', async () => {
  await using set = await withProfile();
  const { at, contents } = set;
  await set.report(reportOf([{ bytes: contents[0] as Buffer }]));
  const file = join(at.manager.store.layout.profiles, `${image}.json`);
  await until('the file', async () => await readFile(file, 'utf8').catch(() => undefined));
  set.monitor.close();
  await at.manager[Symbol.asyncDispose]();
  const { ProfileStore } = await import('./profile-store.ts');
  const { silentLogger } = await import('#core/log.ts');
  const read = async () => {
    await using store = await ProfileStore.open(at.manager.store.layout.profiles, silentLogger());
    return (await store.find(image))?.chosen().length;
  };
  expect(await read()).toBe(1);
  await writeFile(file, '{"version":1,');
  expect(await read()).toBeUndefined();
});
