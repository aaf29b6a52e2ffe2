import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { digestOf, ociDigest } from '#core/digest.ts';
import { encodeIndex } from '#core/index/encode.ts';
import { addImage, addObjects, randomContents, recordOf, treeOf } from '../catalog/testing.ts';
import { startTestRegistry } from '../registry/client-testing.ts';
import { MEDIA } from '../registry/manifest.ts';
import { startTestManager } from '../testing.ts';
import type { Convert } from './conversions.ts';
import { parseRange } from './registry-endpoint-blobs.ts';
import { GearFiles } from './registry-endpoint-gear.ts';
import { listWith } from './registry-endpoint-list.ts';
import { pageOf } from './registry-endpoint-names.ts';

const CONFIG = Buffer.from(
  '{"created":"2024-01-01T00:00:00Z","architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"history":[]}',
);

/** A manager that offers what a registry in this process has; it converts everything to the same tree. */
async function start(pullTimeout = 5000) {
  const stack = new AsyncDisposableStack();
  onTestFinished(() => stack.disposeAsync());
  const registry = stack.use(await startTestRegistry());
  const contents = randomContents(2);
  let conversions = 0;
  let behave = async () => {};
  const convert: Convert = async ({ source }, { target }) => {
    conversions++;
    await behave();
    await addObjects(test.manager.store, contents);
    const indexDigest = await target.putIndex(encodeIndex(treeOf(contents)), { signal: AbortSignal.timeout(5000) });
    const tag = source.slice(source.lastIndexOf(':') + 1);
    const repository = source.slice(`docker://${registry.host}/`.length, source.lastIndexOf(':'));
    const sourceDigest = digestOf(registry.repositories.get(repository)?.get(tag) ?? Buffer.alloc(0));
    const record = recordOf(source, indexDigest, { sourceDigest, config: CONFIG });
    return { image: await target.putImage(record, { signal: AbortSignal.timeout(5000) }), unchanged: false };
  };
  const watch = { watches: [], interval: 60_000, keep: 0, upstream: registry.host, pullTimeout };
  const test = stack.use(await startTestManager({ watch, access: { insecureRegistries: [registry.host] } }, convert));
  const get = async (path: string, init: RequestInit = {}) => {
    const answer = await fetch(`http://${test.manager.addresses.http}/v2/${path}`, init);
    const bytes = Buffer.from(await answer.arrayBuffer());
    return {
      status: answer.status,
      headers: answer.headers,
      bytes,
      digest: answer.headers.get('docker-content-digest'),
    };
  };
  return {
    registry,
    get,
    test,
    conversions: () => conversions,
    behave: (next: () => Promise<void>) => {
      behave = next;
    },
  };
}

describe('the registry endpoint', () => {
  it('says that it is one, and that one cannot push to it', async () => {
    const { get } = await start();
    const ping = await get('');
    expect([ping.status, ping.headers.get('docker-distribution-api-version')]).toEqual([200, 'registry/2.0']);
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      const refused = await get('app/blobs/uploads/', { method, body: 'x' });
      expect([refused.status, JSON.parse(refused.bytes.toString()).errors[0].code]).toEqual([405, 'UNSUPPORTED']);
    }
  });

  it('gives the Gear image of a tag, converted once, and all that it names', async () => {
    const { registry, get, conversions } = await start();
    const original = registry.put('team/app', '1');
    const [one, two] = await Promise.all([get('team/app/manifests/1'), get('team/app/manifests/1')]);
    expect([one.status, one.headers.get('content-type'), one.digest === two.digest]).toEqual([
      200,
      MEDIA.ociManifest,
      true,
    ]);
    expect(one.digest).not.toBe(ociDigest(original));
    expect(ociDigest(digestOf(one.bytes))).toBe(one.digest);
    expect(conversions()).toBe(1);
    const head = await get('team/app/manifests/1', { method: 'HEAD' });
    expect([head.digest, head.bytes.length, head.headers.get('content-length')]).toEqual([
      one.digest,
      0,
      String(one.bytes.length),
    ]);
    const known = await get('team/app/manifests/1', { headers: { 'if-none-match': `"${one.digest}"` } });
    expect(known.status).toBe(304);
    const { config, layers } = JSON.parse(one.bytes.toString());
    const asked = registry.requests.length;
    for (const { digest, size } of [config, ...layers]) {
      const blob = await get(`team/app/blobs/${digest}`);
      expect([blob.status, blob.bytes.length, ociDigest(digestOf(blob.bytes))]).toEqual([200, size, digest]);
      const part = await get(`team/app/blobs/${digest}`, { headers: { range: 'bytes=-10' } });
      expect([part.status, part.bytes.equals(blob.bytes.subarray(-10))]).toEqual([206, true]);
      const beyond = await get(`team/app/blobs/${digest}`, { headers: { range: `bytes=${size}-` } });
      expect([beyond.status, beyond.headers.get('content-range')]).toEqual([416, `bytes */${size}`]);
      expect((await get(`team/app/blobs/${digest}`, { headers: { 'if-none-match': `"${digest}"` } })).status).toBe(304);
    }
    expect(registry.requests.length).toBe(asked);
  });

  it('gives the original when the conversion fails, or takes too long, or the client takes nothing else', async () => {
    const { registry, get, behave, conversions } = await start(300);
    const digest = ociDigest(registry.put('app', 'bad'));
    behave(async () => {
      throw new Error('cannot be converted');
    });
    expect((await get('app/manifests/bad')).digest).toBe(digest);
    const { promise, resolve } = Promise.withResolvers<void>();
    behave(async () => await promise);
    const slow = ociDigest(registry.put('app', 'slow', 'b'));
    const before = performance.now();
    expect((await get('app/manifests/slow')).digest).toBe(slow);
    expect(performance.now() - before).toBeGreaterThan(250);
    expect((await get('app/manifests/slow', { headers: { accept: MEDIA.dockerManifest } })).digest).toBe(slow);
    resolve();
    expect((await get('app/manifests/slow')).digest).not.toBe(slow);
    expect(conversions()).toBe(2);
  });

  it('streams blobs of the upstream, and breaks off what is not what its digest says', async () => {
    const { registry, get } = await start();
    registry.put('app', '1');
    const good = Buffer.alloc(300_000, 'good');
    const bad = digestOf(Buffer.from('bad'));
    registry.blobs.set(digestOf(good), good).set(bad, Buffer.alloc(300_000, 'else'));
    expect((await get(`app/blobs/${ociDigest(digestOf(good))}`)).bytes.equals(good)).toBe(true);
    await expect(get(`app/blobs/${ociDigest(bad)}`)).rejects.toThrow();
  });

  it.each([
    ['app/manifests/none', 404, 'MANIFEST_UNKNOWN'],
    ['none/manifests/1', 404, 'MANIFEST_UNKNOWN'],
    [`app/manifests/sha256:${'0'.repeat(64)}`, 404, 'MANIFEST_UNKNOWN'],
    [`app/blobs/sha256:${'0'.repeat(64)}`, 404, 'BLOB_UNKNOWN'],
    ['app/blobs/sha256:short', 400, 'DIGEST_INVALID'],
    ['APP/manifests/1', 400, 'MANIFEST_INVALID'],
    ['app/manifests/-x', 400, 'MANIFEST_INVALID'],
    ['none/tags/list', 404, 'NAME_UNKNOWN'],
    ['app/else/1', 404, 'NAME_UNKNOWN'],
    ['..%2f..%2fetc/manifests/1', 400, 'MANIFEST_INVALID'],
  ])('answers %s with %i %s', async (path, status, code) => {
    const { registry, get } = await start();
    registry.put('app', '1');
    const answer = await get(path);
    expect([answer.status, JSON.parse(answer.bytes.toString()).errors[0].code]).toEqual([status, code]);
  });

  it('says who is to blame: an upstream that is down, forbids, or talks nonsense', async () => {
    const { registry, get } = await start();
    for (const [status, wanted] of [
      [500, 503],
      [403, 403],
      [401, 403],
      [429, 429],
      [299, 502],
    ] as const) {
      registry.intercept = (_request, response) => {
        response.writeHead(status).end();
        return true;
      };
      expect((await get('app/manifests/1')).status).toBe(wanted);
    }
  });

  it('lists what the upstream has, in pages', async () => {
    const { registry, get } = await start();
    for (const tag of ['c', 'a', 'b']) registry.put('team/app', tag);
    registry.pageSize = 1;
    const first = await get('team/app/tags/list?n=2');
    expect(JSON.parse(first.bytes.toString())).toEqual({ name: 'team/app', tags: ['a', 'b'] });
    expect(first.headers.get('link')).toBe('</v2/team/app/tags/list?last=b&n=2>; rel="next"');
    expect(JSON.parse((await get('_catalog')).bytes.toString())).toEqual({ repositories: ['team/app'] });
  });

  it('offers nothing without an upstream', async () => {
    await using test = await startTestManager();
    expect((await fetch(`http://${test.manager.addresses.http}/v2/`)).status).toBe(404);
  });
});

describe('what the endpoint keeps', () => {
  it('is the same after a restart; what is half written, or of an image that is gone, is not', async () => {
    await using test = await startTestManager();
    const { store } = test.manager;
    const record = await addImage(store, 'docker://app', randomContents(2), { config: CONFIG });
    const root = join(test.root, 'kept');
    const read = async () => await store.indexes.read(record.indexDigest);
    const made = await (await GearFiles.open(root)).keep(record, read);
    await mkdir(join(root, `${'1'.repeat(64)}-${'2'.repeat(64)}`));
    await mkdir(join(root, '.tmp-half'));
    await writeFile(join(root, '.tmp-half', 'config'), 'x');
    const again = await GearFiles.open(root);
    expect(again.find(made.digest)).toEqual(made);
    expect(await readdir(root)).toHaveLength(1);
    expect(await again.keep(record, async () => Buffer.alloc(0))).toEqual(made);
    await again.prune(() => true);
    expect(again.find(made.digest)).toEqual(made);
    await again.prune(() => false);
    expect([again.find(made.digest), await readdir(root)]).toEqual([undefined, []]);
  });
});

describe('parts of it', () => {
  it.each([
    [undefined, undefined],
    ['bytes=0-9', { first: 0, last: 9 }],
    ['bytes=90-', { first: 90, last: 99 }],
    ['bytes=90-1000', { first: 90, last: 99 }],
    ['bytes=-5', { first: 95, last: 99 }],
    ['bytes=-500', { first: 0, last: 99 }],
    ['bytes=100-', 'unsatisfiable'],
    ['bytes=-0', 'unsatisfiable'],
    ['bytes=5-4', undefined],
    ['bytes=0-1,5-6', undefined],
    ['bytes=-', undefined],
    ['lines=0-1', undefined],
  ])('range %s', (header, expected) => {
    expect(parseRange(header, 100)).toEqual(expected);
  });

  it('a list names the Gear image in place of its original, and the other platforms as they were', () => {
    const [amd, arm, note] = ['amd', 'arm', 'note'].map((text) => digestOf(Buffer.from(text)));
    if (amd === undefined || arm === undefined || note === undefined) throw new Error('no digests');
    const entry = (digest: string, platform: object) => ({
      mediaType: 'm',
      digest: `sha256:${digest}`,
      size: 1,
      platform,
    });
    const other = { ...entry(arm, { os: 'linux', architecture: 'arm64' }), annotations: { kept: 'yes' } };
    const manifests = [
      entry(amd, { os: 'linux', architecture: 'amd64' }),
      other,
      entry(note, { os: 'unknown', architecture: 'unknown' }),
    ];
    const gear = { digest: digestOf(Buffer.from('gear')), mediaType: MEDIA.ociManifest, bytes: Buffer.from('gear') };
    const list = JSON.parse(listWith(Buffer.from(JSON.stringify({ manifests })), amd, gear).toString());
    expect(list).toEqual({
      schemaVersion: 2,
      mediaType: MEDIA.ociIndex,
      manifests: [
        {
          mediaType: MEDIA.ociManifest,
          digest: ociDigest(gear.digest),
          size: 4,
          platform: { os: 'linux', architecture: 'amd64' },
        },
        other,
      ],
    });
  });

  it('pages', () => {
    expect(pageOf(['b', 'a'], {}, '/p')).toEqual({ page: ['a', 'b'], link: undefined });
    expect(pageOf(['b', 'a', 'c'], { n: '1', last: 'a' }, '/p')).toEqual({
      page: ['b'],
      link: '</p?last=b&n=1>; rel="next"',
    });
    expect(pageOf(['a'], { last: 'z', n: 'x' }, '/p')).toEqual({ page: [], link: undefined });
  });
});
