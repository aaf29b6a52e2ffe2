import { describe, expect, it } from 'vitest';
import { orAbort, until } from '#core/abort.ts';
import { connect } from '#core/grpc/client.ts';
import { ImagesService } from '#proto/gen/gear/v1/images.ts';
import { MonitorService, type NodeReads } from '#proto/gen/gear/v1/monitor.ts';
import { addImage, quietStore, randomContents, temporaryRoot } from '../../catalog/testing.ts';
import type { QueuedTag } from '../../monitor/queue.ts';
import { startTestManager } from '../../testing.ts';
import type { Convert } from '../conversions.ts';
import { percent } from './bar.ts';
import { Overviews } from './overview.ts';
import { hitRate, page } from './page.ts';
import { ago } from './sections.ts';

const NOTHING = {
  conversions: { list: () => [] },
  nodes: { list: () => [], at: () => undefined },
  transfers: { list: () => [] },
};
const tag = (source: string, change: Partial<QueuedTag>): QueuedTag => ({
  ...{
    source,
    origin: 'watch',
    state: 'waiting',
    digest: 'a'.repeat(64) as QueuedTag['digest'],
    imageDigest: undefined,
  },
  ...{ attempts: 0, error: '', retryAt: undefined, changedAt: 0, goneAt: undefined, progress: undefined },
  ...change,
});

describe('the page', () => {
  it('says what is there, by pages, and what is still to be done', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    for (let at = 0; at < 51; at++) {
      await addImage(store, `docker://r/i${at}:1`, randomContents(1), {
        fileBytes: 1000,
        objectBytes: 500,
        convertedAt: 1e12 + at,
      });
    }
    await store.count();
    const tags = [
      tag('docker://r/waiting:1', {}),
      tag('docker://r/failed:1', {
        state: 'failed',
        error: 'a <layer> is no tar',
        attempts: 2,
        retryAt: Date.now() + 60_000,
      }),
      tag('docker://r/ready:1', { state: 'ready' }),
      tag('docker://r/gone:1', { state: 'failed', goneAt: 1 }),
    ];
    const overviews = new Overviews({ ...NOTHING, store, tags: () => tags });
    const first = overviews.look();
    expect(first).toMatchObject({ logicalBytes: 51_000, storedBytes: 5_100, storedObjects: 51, failed: 1 });
    expect(first.pending.shown.map(({ state }) => state)).toEqual(['failed', 'waiting']);
    expect([first.images.shown.length, first.images.total]).toEqual([50, 51]);
    const second = overviews.look(first.olderToken);
    expect([second.images.shown.map(({ source }) => source), second.olderToken]).toEqual([['docker://r/i0:1'], '']);
    const text = page(first);
    expect(text).toContain('a &lt;layer&gt; is no tar');
    expect(text).toContain(`href="?older=${first.olderToken}"`);
    expect(text).toContain('90 %');
    expect(text).not.toMatch(/\bstyle=|\bon[a-z]+=|<script>|javascript:|docker:\/\/r\/(gone|ready)/);
  });

  it('is served with a policy that lets nothing foreign in', async () => {
    await using test = await startTestManager();
    using monitor = connect(test.manager.addresses.monitor);
    const reads: NodeReads = {
      privateObjects: 9n,
      publicObjects: 3n,
      remoteObjects: 1n,
      demandBytes: 10n,
      profileBytes: 20n,
      fillBytes: 0n,
    };
    const heartbeat = { version: '1', images: [], cacheBytes: 5n, fetchedBytes: 0n, fetchedObjects: 0n };
    await monitor.unary(MonitorService.heartbeat, { ...heartbeat, node: '"><script>alert(1)</script>', reads });
    await monitor.unary(MonitorService.heartbeat, { ...heartbeat, node: 'old', reads: undefined });
    const get = async (path: string) => await fetch(`http://${test.manager.addresses.http}${path}`);
    const answer = await get('/');
    expect(answer.url).toMatch(/\/ui\/$/);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'content-security-policy': expect.stringMatching(
        /^default-src 'none'; script-src 'self'; style-src 'self'; .*frame-ancestors 'none'$/,
      ),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    const text = await answer.text();
    expect(text).toContain('&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;');
    expect(text).toContain('75 % hits');
    expect(text).toContain('not said');
    expect(text).not.toContain('<script>');
    for (const [, file] of text.matchAll(/(?:src|href)="([^"?]+)"/g))
      expect([file, (await get(`/ui/${file}`)).status]).toEqual([file, 200]);
    expect((await get('/ui')).url).toMatch(/\/ui\/$/);
    expect([(await get('/ui/?older=x')).status, (await get('/ui/routes.ts')).status]).toEqual([400, 404]);
  });

  it('tells of conversions while they run', async () => {
    const progress = {
      phase: 'layers',
      doneBytes: 25,
      totalBytes: 100,
      layer: 1,
      layers: 2,
      entries: 3,
      newObjects: 4,
      newBytes: 5,
    } as const;
    const told = Promise.withResolvers<void>();
    const converting: Convert = async (_request, { signal, onProgress }) => {
      onProgress(progress);
      told.resolve();
      return await orAbort(new Promise<never>(() => {}), signal);
    };
    await using test = await startTestManager({}, converting);
    const look = async () => await (await fetch(`http://${test.manager.addresses.http}/ui/`)).text();
    const stop = new AbortController();
    const request = { source: 'docker://r/slow:1', destination: '', platform: undefined, force: false, noPush: true };
    const conversion = Array.fromAsync(
      test.connection.serverStream(ImagesService.convert, request, { timeout: 20_000, signal: stop.signal }),
    );
    conversion.catch(() => {});
    await told.promise;
    const text = await look();
    for (const part of [
      'r/slow:1',
      'layers, layer 1 of 2',
      '25 B of 100 B',
      'width="25.00"',
      '4 (5 B)',
      '1 converting',
    ])
      expect(text).toContain(part);
    stop.abort();
    await until('its end', async () => !(await look()).includes('r/slow:1'));
  });

  it('reckons', () => {
    const reads = {
      privateObjects: 0,
      publicObjects: 1,
      remoteObjects: 3,
      demandBytes: 0,
      profileBytes: 0,
      fillBytes: 0,
    };
    expect(
      hitRate([{ reads }, { reads: undefined }, { reads: { ...reads, publicObjects: 3, remoteObjects: 1 } }]),
    ).toBe(0.5);
    expect(hitRate([])).toBeUndefined();
    expect([0, 0.001, 0.5, 0.999, 1, Number.NaN].map(percent)).toEqual(['0 %', '1 %', '50 %', '99 %', '100 %', '0 %']);
    expect([-5, 5_000, 300_000, 7_200_000, 1e9].map(ago)).toEqual(['0 s', '5 s', '5 min', '2 h', '12 d']);
  });
});
