import { describe, expect, it, onTestFinished } from 'vitest';
import { until } from '#core/abort.ts';
import { digestOf } from '#core/digest.ts';
import { silentLogger } from '#core/log.ts';
import { RegistryClient } from '../registry/client.ts';
import { startTestRegistry } from '../registry/client-testing.ts';
import { ConversionQueue } from './queue.ts';
import { RegistryWatch } from './watch.ts';
import { whyLeftAlone } from './watch-content.ts';
import { parseNotification } from './watch-notification.ts';
import { covers, coversSource, formatWatch, parseWatch } from './watch-spec.ts';

async function start(prefix = '', interval = 3_600_000) {
  const registry = await startTestRegistry();
  onTestFinished(() => registry[Symbol.asyncDispose]());
  const client = new RegistryClient({ access: { insecureRegistries: [registry.host] }, patience: 1000 });
  const converted: string[] = [];
  const queue = new ConversionQueue({
    tags: { put: () => {}, remove: () => {}, all: () => [] },
    workers: 4,
    leftAlone: async () => undefined,
    log: silentLogger(),
    convert: async ({ source }) => {
      converted.push(source);
      throw new Error('converts nothing');
    },
  });
  const watch = new RegistryWatch({
    spec: { host: registry.host, prefix },
    client,
    queue,
    interval,
    log: silentLogger(),
  });
  onTestFinished(async () => {
    await watch[Symbol.asyncDispose]();
    await queue[Symbol.asyncDispose]();
    client[Symbol.dispose]();
  });
  const source = (name: string) => `docker://${registry.host}/${name}`;
  const passes = async (count: number) =>
    await until(`pass ${count}`, () => watch.passes >= count, { interval: 5, timeout: 10_000 });
  return { registry, client, queue, watch, converted, source, passes };
}

describe('RegistryWatch', () => {
  it('finds every tag of what it watches, and looks only at what changed the next time', async () => {
    const { registry, watch, converted, source, passes } = await start('team', 200);
    for (let i = 0; i < 120; i++) registry.put(`other/app-${i}`, '1');
    registry.put('team', '1');
    registry.put('team/app', '1');
    registry.put('team/app', '2', 'b');
    registry.put('teammate', '1');
    watch.start();
    await passes(2);
    expect(converted.sort()).toEqual([source('team/app:1'), source('team/app:2'), source('team:1')]);
    expect(registry.requests.filter((request) => /\/v2\/(teammate|other)\//.test(request))).toEqual([]);
    expect(watch.healthy).toBe(true);
  });

  it('looks at once where a notification says so', async () => {
    const { registry, watch, queue, converted, source, passes } = await start();
    watch.start();
    await passes(1);
    registry.put('app', '1');
    registry.put('app', '2');
    watch.hint('app', '2');
    await until('the tag', () => converted.includes(source('app:2')));
    expect(queue.get(source('app:1'))).toBeUndefined();
    watch.hint('app');
    await until('the other tag', () => converted.includes(source('app:1')));
    registry.repositories.get('app')?.delete('2');
    watch.hint('app');
    await until('the deletion', () => queue.get(source('app:2'))?.goneAt !== undefined);
    expect(queue.get(source('app:1'))?.goneAt).toBeUndefined();
  });

  it('sees a tag that comes just after its notification', async () => {
    const { registry, watch, converted, source, passes } = await start();
    registry.put('app', '1');
    watch.start();
    await passes(1);
    watch.hint('app', '1');
    watch.hint('app', '2');
    await until(
      'a look in vain',
      () => registry.requests.filter((request) => request.endsWith('manifests/2')).length > 0,
    );
    registry.put('app', '2', 'late');
    registry.put('app', '1', 'moved late');
    await until(
      'both',
      () => converted.filter((name) => name === source('app:1')).length > 1 && converted.includes(source('app:2')),
    );
  });

  it('takes nothing for deleted that it could not look at, and goes on when the registry is back', async () => {
    const { registry, watch, queue, source, passes } = await start('', 50);
    registry.put('app', '1');
    registry.put('good', '1');
    watch.start();
    await passes(1);
    registry.intercept = (_request, response, path) => {
      if (!path.includes('/app/')) return false;
      response.writeHead(500).end('nonsense');
      return true;
    };
    registry.repositories.get('good')?.delete('1');
    await until('the deletion', () => queue.get(source('good:1'))?.goneAt !== undefined);
    await until('the failure', () => !watch.healthy);
    registry.intercept = (_request, response) => {
      response.writeHead(200).end('{"repositories": "none"}');
      return true;
    };
    await until('more failures', () => registry.requests.filter((request) => request.includes('_catalog')).length > 4);
    expect(queue.get(source('app:1'))?.goneAt).toBeUndefined();
    registry.intercept = undefined;
    await until('the recovery', () => watch.healthy, { timeout: 10_000 });
    expect(queue.get(source('app:1'))?.goneAt).toBeUndefined();
  });

  it('does without a catalogue where a repository is named', async () => {
    const { registry, watch, converted, source, passes } = await start('team/app');
    registry.put('team/app', '1');
    registry.intercept = (_request, response, path) => {
      if (path !== '/v2/_catalog') return false;
      response.writeHead(403).end();
      return true;
    };
    watch.start();
    await passes(1);
    expect(converted).toEqual([source('team/app:1')]);
  });
});

describe('what is left alone', () => {
  it('is a Gear image, what is built on one, and what is no image', async () => {
    const { registry, client, source } = await start();
    const why = async (digest: ReturnType<typeof registry.put>) => {
      const tag = {
        source: source('app:1'),
        origin: 'watch',
        state: 'waiting',
        digest,
        attempts: 0,
        error: '',
      } as const;
      const rest = { imageDigest: undefined, retryAt: undefined, changedAt: 0, goneAt: undefined };
      return await whyLeftAlone({ client, findImages: () => [] }, { ...tag, ...rest }, AbortSignal.timeout(5000));
    };
    expect(await why(registry.put('app', '1', 'plain', [{ created_by: 'a layer' }]))).toBeUndefined();
    // The history must fit the layers only where somebody converts it.
    expect(await why(registry.put('app', '1', 'gear', [{ comment: 'gear.v1' }, { created_by: 'more' }]))).toBe(
      'a Gear image',
    );
    expect(await why(registry.put('app', '1', 'later', [{ created_by: 'a' }, { comment: 'gear.v1' }]))).toBeUndefined();
    const chart = Buffer.from(
      JSON.stringify({ schemaVersion: 2, config: { mediaType: 'application/vnd.chart' }, layers: [] }),
    );
    registry.repositories.get('app')?.set('1', chart);
    expect(await why(digestOf(chart))).toBe('not an image');
  });
});

describe('what is watched', () => {
  it.each([
    ['docker://registry.test', 'registry.test', ''],
    ['docker://registry.test:5000/', 'registry.test:5000', ''],
    ['registry.test/team', 'registry.test', 'team'],
    ['docker://localhost/team/app', 'localhost', 'team/app'],
    ['docker://[::1]:5000/a', '[::1]:5000', 'a'],
    ['docker://docker.io/somebody', 'docker.io', 'somebody'],
  ])('%s', (text, host, prefix) => {
    expect(parseWatch(text, '--watch')).toEqual({ host, prefix });
  });

  it.each([
    '',
    'docker://',
    'http://registry.test',
    'docker://registry.test/UPPER',
    'registry',
    'oci:folder',
    'docker://a b.test',
  ])('refuses %j', (text) => {
    expect(() => parseWatch(text, '--watch')).toThrow(/--watch/);
  });

  it('covers a repository and what is below it', () => {
    const spec = { host: 'r.test', prefix: 'team' };
    expect(['team', 'team/a', 'teammate', 'a/team'].map((name) => covers(spec, name))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(coversSource(spec, 'docker://r.test/team/a:1')).toBe(true);
    expect(coversSource(spec, 'docker://other.test/team/a:1')).toBe(false);
    expect(formatWatch(spec)).toBe('docker://r.test/team');
  });
});

describe('notifications', () => {
  it('say where to look', () => {
    const event = (action: string, target: object) => ({ action, target, request: { host: 'r.test' } });
    const events = [
      event('push', { repository: 'a', tag: '1', mediaType: 'm' }),
      event('push', { repository: 'a', digest: 'sha256:b' }),
      event('pull', { repository: 'a', tag: '1' }),
      event('delete', { repository: 'a', digest: 'sha256:c' }),
      event('delete', { repository: 'a', mediaType: 'application/octet-stream' }),
      { action: 'push' },
      'nonsense',
    ];
    expect(parseNotification({ events })).toEqual([
      { repository: 'a', tag: '1', host: 'r.test' },
      { repository: 'a', tag: undefined, host: 'r.test' },
    ]);
    for (const body of [undefined, 1, [], {}, { events: {} }]) expect(() => parseNotification(body)).toThrow(/events/);
  });
});
