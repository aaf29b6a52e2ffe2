import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { isDigest, ociDigest } from '#core/digest.ts';
import type { Logger } from '#core/log.ts';
import type { Conversions } from './api/conversions.ts';
import type { Metrics } from './api/metrics.ts';
import { addRegistryEndpoint } from './api/registry-endpoint.ts';
import { GearFiles } from './api/registry-endpoint-gear.ts';
import { Mirror } from './api/registry-endpoint-mirror.ts';
import { addWebhook } from './api/registry-endpoint-webhook.ts';
import type { Transfers } from './api/transfers.ts';
import type { Store } from './catalog/store.ts';
import type { ManagerConfig } from './config.ts';
import type { Nodes } from './monitor/nodes.ts';
import { WatchService } from './monitor/watch-service.ts';

/** How often Gear images that the store has lost are looked for among the files of the registry endpoint; milliseconds. */
const PRUNE_INTERVAL = 600_000;

export interface WatchingParts {
  readonly config: ManagerConfig;
  readonly store: Store;
  readonly conversions: Conversions;
  readonly nodes: Nodes;
  readonly metrics: Metrics;
  readonly transfers: Transfers;
  /** Aborts when calls under way must end. */
  readonly stop: AbortSignal;
  readonly log: Logger;
}

/** Adds to the HTTP server what has to do with registries: the webhook and the registry endpoint. What it gives is to be started once the server listens. */
export async function addWatching(
  http: FastifyInstance,
  { config, store, conversions, nodes, metrics, transfers, stop, log }: WatchingParts,
): Promise<WatchService | undefined> {
  if (config.watch === undefined) return undefined;
  const { upstream, pullTimeout } = config.watch;
  const service = new WatchService({
    config: config.watch,
    access: config.access,
    store,
    convert: async (request, options) => await conversions.run(request, options),
    maxConversions: config.maxConversions,
    onNodes: function* () {
      for (const { last } of nodes.list()) {
        for (const { indexDigest } of last?.images ?? []) {
          const digest = indexDigest.replace(/^sha256:/, '');
          if (isDigest(digest)) yield digest;
        }
      }
    },
    log,
  });
  const { queue, watches, client } = service;
  for (const state of ['waiting', 'converting', 'ready', 'failed', 'ignored'] as const) {
    metrics.gauge(`gear_watched_${state}`, `Tags of registries that are ${state}`, () => queue.count(state));
  }
  metrics.gauge(
    'gear_watches_healthy',
    'Watched registries that answered lately',
    () => watches.filter(({ healthy }) => healthy).length,
  );
  addWebhook(http, (hints) => service.notify(hints));
  if (upstream === undefined) return service;

  const files = await GearFiles.open(join(store.layout.root, 'gear-images'));
  const prune = async () =>
    await files.prune(({ sourceDigest, indexDigest }) =>
      store
        .findImages(ociDigest(sourceDigest))
        .some(({ record }) => record.sourceDigest === sourceDigest && record.indexDigest === indexDigest),
    );
  await prune();
  const pruning = setInterval(() => {
    prune().catch((error: unknown) => log.error({ err: error }, 'old Gear images could not be removed'));
  }, PRUNE_INTERVAL).unref();
  stop.addEventListener('abort', () => clearInterval(pruning), { once: true });
  const mirror = new Mirror({ upstream, client, queue, store, files, pullTimeout, log });
  const pulls = metrics.counter('gear_pulls_total', 'Tags that were pulled from the registry endpoint');
  addRegistryEndpoint(http, { upstream, mirror, client, files, stop, pulls, transfers, log });
  return service;
}
