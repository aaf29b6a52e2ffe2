import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { sleep, until } from '#core/abort.ts';
import { digestOf, digestToBytes } from '#core/digest.ts';
import { MAX_DIGESTS_PER_REQUEST } from '#core/grpc/limits.ts';
import { ContentStoreService, type Range, type WriteRequest } from '#proto/gen/gear/v1/objects.ts';
import { randomContents } from '../catalog/testing.ts';
import { randomObject, temporaryFiles } from '../store/testing.ts';
import { rangeOf, read, readMany, startTestManager, upload, uploadOf } from '../testing.ts';

const SIZES = [1, 4096, 131_072, 131_073, 1_048_576, 5_000_000];

/** Contents of all kinds of sizes. */
function mixedContents(): Buffer[] {
  return SIZES.map((size) => randomObject(size).bytes);
}

describe('Write', () => {
  it('stores many objects on one stream, and each once', async () => {
    await using test = await startTestManager();
    const contents = [...mixedContents(), ...randomContents(500)];
    const bytes = contents.reduce((sum, content) => sum + content.length, 0);
    expect(await upload(test.connection, uploadOf(contents))).toEqual([contents.length, bytes]);
    expect(await upload(test.connection, uploadOf(contents))).toEqual([0, 0]);
    for (const content of contents.slice(0, 20)) expect(await read(test.connection, rangeOf(content))).toEqual(content);
  });

  it('stores what several clients send at the same time', async () => {
    await using test = await startTestManager();
    const contents = [...mixedContents(), ...randomContents(200)];
    const results = await Promise.all([...Array(5)].map(async () => await upload(test.connection, uploadOf(contents))));
    expect(results.reduce((sum, [objects]) => sum + objects, 0)).toBe(contents.length);
    const answers = await readMany(test.connection, [contents.map((content) => rangeOf(content))]);
    expect(answers.map(({ bytes }) => digestOf(bytes))).toEqual(contents.map(digestOf));
  });

  const good = randomObject(5000);
  const other = randomObject(5000);
  const header = (size: number, digest: Uint8Array = digestToBytes(good.digest)): WriteRequest => ({
    part: { $case: 'header', value: { digest: Buffer.from(digest), size: BigInt(size) } },
  });
  const data = (value: Buffer): WriteRequest => ({ part: { $case: 'data', value } });
  const bad: [string, WriteRequest[], string][] = [
    ['other bytes', [header(5000), data(other.bytes)], good.digest],
    ['too few bytes', [header(5001), data(good.bytes)], good.digest],
    [
      'too few bytes before the next object',
      [header(5001), data(good.bytes), header(5000), data(good.bytes)],
      good.digest,
    ],
    ['too many bytes', [header(4999), data(good.bytes)], good.digest],
    ['an empty object', [header(0)], good.digest],
    ['an impossible size', [header(2 ** 60)], good.digest],
    ['data without a header', [data(good.bytes)], 'header'],
    ['data behind an object', [header(5000), data(good.bytes), data(good.bytes)], 'header'],
    ['a short digest', [header(5000, Buffer.alloc(31)), data(good.bytes)], '32 bytes'],
    ['neither', [{ part: undefined }], 'header'],
  ];
  it.each(bad)('refuses %s', async (_what, messages, names) => {
    await using test = await startTestManager();
    await expect(upload(test.connection, messages)).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining(names),
    });
    expect(await temporaryFiles(test.manager.store.layout)).toEqual([]);
    expect(await Array.fromAsync(test.manager.store.objects.list())).toEqual([]);
  });

  it('leaves nothing of an upload whose client goes away', async () => {
    await using test = await startTestManager();
    const controller = new AbortController();
    const { bytes, digest } = randomObject(3_000_000);
    async function* half(): AsyncGenerator<WriteRequest, void, void> {
      yield* [...uploadOf([bytes])].slice(0, 15);
      await until('a temporary file', async () => (await temporaryFiles(test.manager.store.layout)).length > 0);
      controller.abort(new Error('enough'));
      await sleep(60_000, { signal: AbortSignal.timeout(1000) }).catch(() => {});
    }
    const writing = test.connection.clientStream(ContentStoreService.write, half(), { signal: controller.signal });
    await expect(writing).rejects.toThrow('enough');
    await until('no temporary files', async () => (await temporaryFiles(test.manager.store.layout)).length === 0);
    expect(await test.manager.store.objects.has(digest)).toBe(false);
  });

  it('ends at the deadline', async () => {
    await using test = await startTestManager();
    async function* never(): AsyncGenerator<WriteRequest, void, void> {
      yield header(5000);
      await sleep(3000);
    }
    const writing = test.connection.clientStream(ContentStoreService.write, never(), { timeout: 300 });
    await expect(writing).rejects.toMatchObject({ code: 'deadline-exceeded' });
  });
});

describe('FindMissing', () => {
  it('tells which, in the order asked', async () => {
    await using test = await startTestManager();
    const contents = randomContents(100);
    await upload(test.connection, uploadOf(contents.filter((_, at) => at % 3 === 0)));
    const digests = contents.map((content) => digestToBytes(digestOf(content)));
    const missing = await test.connection.unary(ContentStoreService.findMissing, { digests });
    expect(missing.digests).toEqual(digests.filter((_, at) => at % 3 !== 0));
  });

  it('refuses malformed digests and too many', async () => {
    await using test = await startTestManager();
    const ask = async (digests: Buffer[]) => await test.connection.unary(ContentStoreService.findMissing, { digests });
    await expect(ask([Buffer.alloc(31)])).rejects.toMatchObject({ code: 'invalid-argument' });
    const many = Array<Buffer>(MAX_DIGESTS_PER_REQUEST + 1).fill(Buffer.alloc(32));
    await expect(ask(many)).rejects.toMatchObject({ code: 'invalid-argument' });
    expect((await ask(many.slice(1))).digests).toHaveLength(MAX_DIGESTS_PER_REQUEST);
  });
});

describe('Read', () => {
  it.each([
    [0, 0],
    [1, 1],
    [131_072, 131_072],
    [131_071, 2],
    [4_999_999, 1],
    [4_999_999, 1000],
    [5_000_000, 0],
    [0, 5_000_000],
    [7, 3_000_000],
  ])('gives the range from %i of %i bytes', async (offset, length) => {
    await using test = await startTestManager();
    const { bytes } = randomObject(5_000_000);
    await upload(test.connection, uploadOf([bytes], 1_000_000));
    const end = length === 0 ? bytes.length : offset + length;
    expect(await read(test.connection, rangeOf(bytes, offset, length))).toEqual(bytes.subarray(offset, end));
  });

  it('says what is wrong', async () => {
    await using test = await startTestManager();
    const { bytes } = randomObject(100);
    await upload(test.connection, uploadOf([bytes]));
    const absent = randomObject(100).bytes;
    const rejects = async (range: Range | undefined, code: string) =>
      await expect(read(test.connection, range)).rejects.toMatchObject({ code });
    await rejects(rangeOf(absent), 'not-found');
    await rejects(rangeOf(bytes, 101), 'out-of-range');
    await rejects({ ...rangeOf(bytes), offset: 2n ** 63n }, 'out-of-range');
    await rejects({ ...rangeOf(bytes), digest: Buffer.alloc(5) }, 'invalid-argument');
    await rejects(undefined, 'invalid-argument');
  });

  it('stops reading when the client goes away', async () => {
    await using test = await startTestManager();
    const { bytes } = randomObject(30_000_000);
    await upload(test.connection, uploadOf([bytes], 1_000_000));
    let count = 0;
    for await (const _ of test.connection.serverStream(ContentStoreService.read, { range: rangeOf(bytes) })) {
      if (++count === 2) break;
    }
    // Flow control holds back what nobody reads, and a cancelled call is no longer one that stopping has to wait for.
    const began = performance.now();
    await test.manager[Symbol.asyncDispose]();
    expect(performance.now() - began).toBeLessThan(1500);
  });
});

describe('ReadMany', () => {
  it('answers in the order asked, missing ones in between', async () => {
    await using test = await startTestManager();
    const contents = [...mixedContents(), ...randomContents(300)];
    const stored = contents.filter((_, at) => at % 7 !== 3);
    await upload(test.connection, uploadOf(stored));
    const requests: Range[][] = [];
    for (let at = 0; at < contents.length; at += 50) requests.push(contents.slice(at, at + 50).map((c) => rangeOf(c)));
    const answers = await readMany(test.connection, requests);
    expect(answers).toHaveLength(contents.length);
    for (const [at, { code, bytes }] of answers.entries()) {
      expect(code).toBe(at % 7 === 3 ? status.NOT_FOUND : status.OK);
      if (code === status.OK) expect(bytes.equals(contents[at] as Buffer)).toBe(true);
    }
  });

  it('answers each bad range by a status of its own', async () => {
    await using test = await startTestManager();
    const { bytes } = randomObject(200_000);
    await upload(test.connection, uploadOf([bytes]));
    const answers = await readMany(test.connection, [
      [rangeOf(bytes, 200_001), { ...rangeOf(bytes), digest: Buffer.alloc(0) }],
      [],
      [rangeOf(bytes, 200_000), rangeOf(bytes, 199_000), rangeOf(bytes)],
    ]);
    expect(answers.map(({ code }) => code)).toEqual([status.OUT_OF_RANGE, status.INVALID_ARGUMENT, 0, 0, 0]);
    expect(answers.map((answer) => answer.bytes.length)).toEqual([0, 0, 0, 1000, 200_000]);
  });

  it('answers at once while the stream stays open', async () => {
    await using test = await startTestManager();
    const contents = randomContents(50);
    await upload(test.connection, uploadOf(contents));
    using exchange = test.connection.exchange(ContentStoreService.readMany, { timeout: 20_000 });
    const answers = exchange.answers[Symbol.asyncIterator]();
    for (const content of contents) {
      await exchange.send({ ranges: [rangeOf(content)] });
      const { value } = await answers.next();
      expect(value).toMatchObject({ data: content, last: true, code: 0 });
    }
  });

  it('waits for a slow client, without gathering what it has not read', async () => {
    await using test = await startTestManager();
    const { bytes } = randomObject(10_000_000);
    await upload(test.connection, uploadOf([bytes], 1_000_000));
    using exchange = test.connection.exchange(ContentStoreService.readMany, { timeout: 30_000 });
    await exchange.send({ ranges: [...Array(10)].map(() => rangeOf(bytes)) });
    await sleep(1000);
    const metrics = await (await fetch(`http://${test.manager.addresses.http}/metrics`)).text();
    const served = Number(/^gear_served_bytes_total (\d+)$/m.exec(metrics)?.[1]);
    expect(served).toBeGreaterThan(100_000);
    expect(served).toBeLessThan(20_000_000);
    exchange.end();
    let size = 0;
    for await (const { data } of exchange.answers) size += data.length;
    expect(size).toBe(100_000_000);
  });

  it('ends an idle stream when the manager stops', async () => {
    await using test = await startTestManager({ stopTimeout: 10_000 });
    using exchange = test.connection.exchange(ContentStoreService.readMany);
    const { bytes } = randomObject(10);
    await exchange.send({ ranges: [rangeOf(bytes)] });
    const answers = exchange.answers[Symbol.asyncIterator]();
    expect((await answers.next()).value).toMatchObject({ code: status.NOT_FOUND });
    const began = performance.now();
    const stopping = test.manager[Symbol.asyncDispose]();
    expect((await answers.next()).done).toBe(true);
    await stopping;
    expect(performance.now() - began).toBeLessThan(5000);
  });
});
