import { describe, expect, it } from 'vitest';
import { sleep, until } from '#core/abort.ts';
import { type Digest, digestOf, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Connection } from '#core/grpc/client.ts';
import { encodeIndex } from '#core/index/encode.ts';
import { type ConvertRequest, ImagesService, ConvertProgress_Phase as Phase } from '#proto/gen/gear/v1/images.ts';
import { addImage, addObjects, randomContents, recordOf, treeOf } from '../catalog/testing.ts';
import { imageToWire } from '../converter/image-wire.ts';
import type { ConvertProgress } from '../converter/request.ts';
import { startTestManager, upload, uploadOf } from '../testing.ts';
import type { Convert } from './conversions.ts';

const LIMITS = { timeout: 20_000 };
const REQUEST: ConvertRequest = {
  source: 'docker://app',
  destination: '',
  platform: undefined,
  force: false,
  noPush: true,
};

async function putIndex(connection: Connection, bytes: Buffer, piece = 50_000): Promise<string> {
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += piece) yield { data: bytes.subarray(at, at + piece) };
  }
  return (await connection.clientStream(ImagesService.putIndex, pieces(), LIMITS)).digest;
}

async function getIndex(connection: Connection, digest: string): Promise<Buffer> {
  const pieces = await Array.fromAsync(connection.serverStream(ImagesService.getIndex, { digest }, LIMITS));
  return Buffer.concat(pieces.map(({ data }) => data));
}

describe('indexes and images from a client', () => {
  it('takes objects, indexes and a record, and gives them back', async () => {
    await using test = await startTestManager();
    const { connection } = test;
    const contents = randomContents(3000);
    await upload(connection, uploadOf(contents));
    const bytes = encodeIndex(treeOf(contents));
    expect(bytes.length).toBeGreaterThan(150_000);
    const digest = await putIndex(connection, bytes);
    expect(digest).toBe(ociDigest(digestOf(bytes)));
    expect(await getIndex(connection, digest)).toEqual(bytes);
    const image = imageToWire(recordOf('docker://app', digestOf(bytes)));
    expect(await connection.unary(ImagesService.put, image, LIMITS)).toEqual(image);
    const found = await connection.unary(ImagesService.resolve, { reference: 'app', platform: undefined }, LIMITS);
    expect(found).toEqual(image);
  });

  it('keeps what was uploaded from being collected until the image is registered', async () => {
    await using test = await startTestManager({ grace: 60_000 });
    const { connection, manager } = test;
    const contents = randomContents(20);
    const collect = async () => {
      await sleep(30);
      return await manager.store.collect({ everything: true });
    };
    await upload(connection, uploadOf(contents));
    expect(await collect()).toMatchObject({ objects: 0 });
    const digest = await putIndex(connection, encodeIndex(treeOf(contents)));
    expect(await collect()).toMatchObject({ indexes: 0, objects: 0 });
    await connection.unary(ImagesService.put, imageToWire(recordOf('docker://app', parseDigest(digest))), LIMITS);
    expect(await collect()).toMatchObject({ indexes: 0, objects: 0 });
  });

  it('names the object that an index lacks, and the index that an image lacks', async () => {
    await using test = await startTestManager();
    const { connection } = test;
    const contents = randomContents(3);
    await upload(connection, uploadOf(contents.slice(1)));
    const bytes = encodeIndex(treeOf(contents));
    const lacking = digestOf(contents[0] as Buffer);
    await expect(putIndex(connection, bytes)).rejects.toMatchObject({
      code: 'failed-precondition',
      message: expect.stringContaining(lacking),
    });
    const image = imageToWire(recordOf('docker://app', digestOf(bytes)));
    await expect(connection.unary(ImagesService.put, image, LIMITS)).rejects.toMatchObject({
      code: 'failed-precondition',
      message: expect.stringContaining(digestOf(bytes)),
    });
  });

  it('refuses what is malformed', async () => {
    await using test = await startTestManager();
    const { connection } = test;
    const image = imageToWire(recordOf('docker://app', digestOf(Buffer.from('x'))));
    const invalid = { code: 'invalid-argument' };
    const put = async (change: object) => await connection.unary(ImagesService.put, { ...image, ...change }, LIMITS);
    await expect(put({ source: '' })).rejects.toMatchObject(invalid);
    await expect(put({ indexDigest: 'sha256:1' })).rejects.toMatchObject(invalid);
    await expect(put({ entries: 2n ** 60n })).rejects.toMatchObject(invalid);
    await expect(putIndex(connection, Buffer.from('nonsense'))).rejects.toMatchObject({ code: 'corrupt' });
    await expect(getIndex(connection, 'sha256:1')).rejects.toMatchObject(invalid);
    await expect(getIndex(connection, image.indexDigest)).rejects.toMatchObject({ code: 'not-found' });
    const resolve = async (reference: string) =>
      await connection.unary(ImagesService.resolve, { reference, platform: undefined }, LIMITS);
    await expect(resolve('')).rejects.toMatchObject(invalid);
    await expect(resolve('sha256:zz')).rejects.toMatchObject(invalid);
    await expect(resolve('no/such/image')).rejects.toMatchObject({ code: 'not-found' });
    const layer = async (digest: string) => await connection.unary(ImagesService.resolveLayer, { digest }, LIMITS);
    await expect(layer('x')).rejects.toMatchObject(invalid);
    await expect(layer(image.indexDigest)).rejects.toMatchObject({ code: 'not-found' });
    const remove = connection.unary(ImagesService.delete, { reference: 'no/such/image' }, LIMITS);
    await expect(remove).rejects.toMatchObject({ code: 'not-found' });
  });
});

describe('List and Delete', () => {
  it('gives every image once, whatever the size of the page', async () => {
    await using test = await startTestManager();
    for (let at = 0; at < 25; at++) {
      const config = Buffer.alloc(at % 5 === 0 ? 1_500_000 : 10);
      await addImage(test.manager.store, `docker://app:${at}`, randomContents(1), { convertedAt: at, config });
    }
    for (const pageSize of [0, 1, 7, 4_000_000_000]) {
      const sources: string[] = [];
      let pageToken = '';
      do {
        const page = await test.connection.unary(ImagesService.list, { pageSize, pageToken }, LIMITS);
        sources.push(...page.images.map(({ source }) => source));
        pageToken = page.nextPageToken;
      } while (pageToken !== '');
      expect(sources).toEqual([...Array(25)].map((_, at) => `docker://app:${24 - at}`));
    }
    const wrong = test.connection.unary(ImagesService.list, { pageSize: 5, pageToken: 'nonsense' }, LIMITS);
    await expect(wrong).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  it('frees what only the deleted image used', async () => {
    await using test = await startTestManager();
    const [shared, mine] = [randomContents(3), randomContents(4)];
    await addImage(test.manager.store, 'docker://kept', shared);
    await addImage(test.manager.store, 'docker://gone', [...shared, ...mine]);
    await sleep(20);
    const { objects, bytes } = await test.connection.unary(ImagesService.delete, { reference: 'gone' }, LIMITS);
    expect([Number(objects), Number(bytes)]).toEqual([4, mine.reduce((sum, content) => sum + content.length, 0)]);
  });
});

describe('Convert', () => {
  const progress = (change: Partial<ConvertProgress>): ConvertProgress => ({
    phase: 'layers',
    doneBytes: 0,
    totalBytes: 100,
    layer: 1,
    layers: 2,
    entries: 0,
    newObjects: 0,
    newBytes: 0,
    ...change,
  });
  /** A conversion that waits for its gate, then registers an image of `contents`. */
  function gated(contents: readonly Buffer[]) {
    const gate = Promise.withResolvers<void>();
    const seen = { started: 0, aborted: 0 };
    const convert: Convert = async (request, { target, signal, onProgress }) => {
      seen.started++;
      signal.addEventListener('abort', () => seen.aborted++);
      onProgress(progress({ doneBytes: 10 }));
      await Promise.race([gate.promise, sleep(30_000, { signal })]);
      await using objects = await target.openObjects({ signal });
      for (const bytes of contents) {
        await objects.add(
          (async function* () {
            yield bytes;
          })(),
          bytes.length,
        );
      }
      await objects.commit();
      const index: Digest = await target.putIndex(encodeIndex(treeOf(contents)), { signal });
      onProgress(progress({ phase: 'done', newObjects: objects.newObjects }));
      return { image: await target.putImage(recordOf(request.source, index), { signal }), unchanged: false };
    };
    return { gate, seen, convert };
  }

  it('streams progress, then the image', async () => {
    const { gate, convert } = gated(randomContents(3));
    await using test = await startTestManager({}, convert);
    const messages = [];
    for await (const message of test.connection.serverStream(ImagesService.convert, REQUEST, LIMITS)) {
      messages.push(message);
      gate.resolve();
    }
    expect(messages[0]).toMatchObject({ phase: Phase.PHASE_LAYERS, doneBytes: 10n, layer: 1 });
    expect(messages.at(-1)).toMatchObject({
      phase: Phase.PHASE_DONE,
      newObjects: 3n,
      image: { source: 'docker://app' },
    });
    expect(messages.filter(({ image }) => image !== undefined)).toHaveLength(1);
  });

  it('does concurrent conversions of one image once, and tells all', async () => {
    const { gate, seen, convert } = gated(randomContents(3));
    await using test = await startTestManager({}, convert);
    const ask = async (source: string) =>
      await Array.fromAsync(test.connection.serverStream(ImagesService.convert, { ...REQUEST, source }, LIMITS));
    const asked = ['docker://app', 'app', 'docker.io/library/app:latest'].map(ask);
    await until('the conversion', () => seen.started > 0);
    await sleep(200);
    expect(seen).toEqual({ started: 1, aborted: 0 });
    gate.resolve();
    const answers = await Promise.all(asked);
    expect(seen.started).toBe(1);
    for (const messages of answers) {
      expect(messages[0]).toMatchObject({ phase: Phase.PHASE_LAYERS });
      expect(messages.at(-1)?.image).toEqual(answers[0]?.at(-1)?.image);
    }
  });

  it('is cancelled when all who waited have gone, and not before', async () => {
    const { gate, seen, convert } = gated(randomContents(3));
    await using test = await startTestManager({}, convert);
    const start = (signal: AbortSignal) =>
      Array.fromAsync(test.connection.serverStream(ImagesService.convert, REQUEST, { signal })).catch(() => 'gone');
    const [first, second, third] = [new AbortController(), new AbortController(), new AbortController()];
    const calls = [start(first.signal), start(second.signal)];
    await until('the conversion', () => seen.started > 0);
    await sleep(100);
    first.abort();
    await sleep(200);
    expect(seen.aborted).toBe(0);
    second.abort();
    await until('the end of the conversion', () => seen.aborted === 1);
    expect(await Promise.all(calls)).toEqual(['gone', 'gone']);
    // Whoever comes now gets a conversion of his own.
    const again = start(third.signal);
    await until('another conversion', () => seen.started === 2);
    gate.resolve();
    expect(await again).not.toBe('gone');
  });

  it('tells all of its failure, with its code', async () => {
    const convert: Convert = async () => {
      await sleep(100);
      throw new GearError('unauthenticated', 'registry.example: log in first');
    };
    await using test = await startTestManager({}, convert);
    const ask = async () => await Array.fromAsync(test.connection.serverStream(ImagesService.convert, REQUEST, LIMITS));
    const results = await Promise.allSettled([ask(), ask(), ask()]);
    for (const result of results) {
      const reason = { code: 'unauthenticated', message: expect.stringContaining('log in first') };
      expect(result).toMatchObject({ status: 'rejected', reason });
    }
  });

  it('refuses what is no reference', async () => {
    await using test = await startTestManager();
    const ask = Array.fromAsync(
      test.connection.serverStream(ImagesService.convert, { ...REQUEST, source: 'A B' }, LIMITS),
    );
    await expect(ask).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  it('keeps what it found from a deletion beside it', async () => {
    const contents = randomContents(50);
    const { gate, seen, convert } = gated(contents);
    const found: Convert = async (request, options) => {
      // As a conversion of a changed image does: the layer is known, so only its record and index are asked for.
      const layer = await options.target.findLayer(layerDigest, { signal: options.signal });
      expect(layer).toBeDefined();
      return await convert(request, options);
    };
    await using test = await startTestManager({}, found);
    await addObjects(test.manager.store, contents);
    const old = await addImage(test.manager.store, 'docker://old', contents);
    const layerDigest = old.layers[0]?.diffId as Digest;
    const converting = Array.fromAsync(test.connection.serverStream(ImagesService.convert, REQUEST, LIMITS));
    await until('the conversion', () => seen.started > 0);
    await test.connection.unary(ImagesService.delete, { reference: 'old' }, LIMITS);
    gate.resolve();
    await converting;
    const sizes = await Promise.all(
      contents.map(async (bytes) => await test.manager.store.objects.size(digestOf(bytes))),
    );
    expect(sizes).toEqual(contents.map((bytes) => bytes.length));
  });
});
