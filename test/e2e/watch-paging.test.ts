import { expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { silentLogger } from '#core/log.ts';
import { startRegistry } from '../../deploy/sandbox/registry.ts';
import { ConversionQueue } from '../../manager/monitor/queue.ts';
import { RegistryWatch } from '../../manager/monitor/watch.ts';
import { whyLeftAlone } from '../../manager/monitor/watch-content.ts';
import { RegistryClient } from '../../manager/registry/client.ts';
import { pushTiny } from '../support/raw-push.ts';

const REPOSITORIES = 200;

// Each conversion starts a few processes; here it is counted instead, so that 200 of them take no minutes.
it('finds the images of 200 repositories, page by page, and asks little when nothing has changed', async () => {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(await startRegistry());
  const names = Array.from({ length: REPOSITORIES }, (_, at) => `many/app-${String(at).padStart(3, '0')}`);
  const rest = names[Symbol.iterator]();
  const worker = async () => {
    for (const name of rest) await pushTiny(registry.host, name, '1', name);
  };
  await Promise.all([worker(), worker(), worker(), worker()]);

  const client = stack.use(new RegistryClient({ access: { insecureRegistries: [registry.host] } }));
  const converted: string[] = [];
  const queue = stack.use(
    new ConversionQueue({
      tags: { put: () => {}, remove: () => {}, all: () => [] },
      workers: 4,
      leftAlone: async (tag, signal) => await whyLeftAlone({ client, findImages: () => [] }, tag, signal),
      log: silentLogger(),
      convert: async ({ source }) => {
        converted.push(source);
        throw new Error('counted');
      },
    }),
  );
  const spec = { host: registry.host, prefix: 'many' };
  const watch = stack.use(new RegistryWatch({ spec, client, queue, interval: 300, log: silentLogger() }));
  watch.start();
  await until('all images', () => new Set(converted).size === REPOSITORIES);
  const wanted = names.map((name) => `docker://${registry.host}/${name}:1`);
  expect([...new Set(converted)].sort()).toEqual(wanted);
  expect(registry.requests().filter(({ path }) => path.startsWith('/v2/_catalog')).length).toBeGreaterThanOrEqual(2);
  const passes = watch.passes;
  await until('another look', () => watch.passes > passes + 1);
  const heads = registry.requests().filter(({ method }) => method === 'HEAD');
  expect(heads.filter(({ status }) => status === 200)).toHaveLength(REPOSITORIES);
  expect(heads.filter(({ status }) => status === 304).length).toBeGreaterThanOrEqual(REPOSITORIES);
});
