import { rm } from 'node:fs/promises';
import { sleep } from '#core/abort.ts';
import { writeAtomically } from '#core/atomic-file.ts';
import { GearError } from '#core/errors.ts';
import { formatHostPort } from '#core/grpc/address.ts';
import type { Logger } from '#core/log.ts';
import { VERSION } from '#core/version.ts';
import { ExportDescription_State, ExportService } from '#proto/gen/gear/v1/export.ts';
import { ImagesService } from '#proto/gen/gear/v1/images.ts';
import { MonitorService } from '#proto/gen/gear/v1/monitor.ts';
import { Conversions, type Convert } from './api/conversions.ts';
import { FastContentStoreService } from './api/data-messages.ts';
import { exportService } from './api/export.ts';
import { createGrpcServer, type GrpcServer } from './api/grpc-server.ts';
import { Handlers } from './api/handlers.ts';
import { createHealth, type Health } from './api/health.ts';
import { createHttp, listenHttp } from './api/http.ts';
import { imagesService } from './api/images.ts';
import { Metrics } from './api/metrics.ts';
import { HEARTBEAT_SECONDS, monitorService } from './api/monitor.ts';
import { contentStoreService } from './api/objects.ts';
import { addReflection } from './api/reflection.ts';
import { Transfers } from './api/transfers.ts';
import { addUi } from './api/ui/routes.ts';
import { openStore, type Store } from './catalog/store.ts';
import type { ManagerConfig } from './config.ts';
import { startExport } from './export/export.ts';
import { startJanitor } from './janitor.ts';
import { Nodes } from './monitor/nodes.ts';
import { Profiles } from './monitor/profiles.ts';
import { Guard } from './security/guard.ts';
import { openListeners } from './security/options.ts';
import { checkWritable } from './store/writable.ts';
import { addWatching } from './watching.ts';

/** How long calls that were cut off may take to clean up; milliseconds. */
const SETTLE_TIMEOUT = 5000;

/** Where a manager listens ("HOST:PORT"), as written to addresses.json in its root. */
export interface Addresses {
  readonly grpc: string;
  readonly monitor: string;
  readonly http: string;
  /** Of the NFS export; undefined where there is none. */
  readonly nfs?: string | undefined;
}

/** A manager that serves. Disposing it stops it: nothing new is taken, what is under way gets its time, the rest is cancelled. */
export interface Manager extends AsyncDisposable {
  readonly addresses: Addresses;
  readonly store: Store;
}

export interface ManagerParts {
  readonly config: ManagerConfig;
  readonly log: Logger;
  /** How an image is converted. */
  readonly convert: Convert;
}

/** Opens the store and serves it. Throws failed-precondition for a root or an address that another process has. */
export async function startManager({ config, log, convert }: ManagerParts): Promise<Manager> {
  await using stack = new AsyncDisposableStack();
  const metrics = new Metrics();
  const refused = metrics.counter('gear_refused_total', 'Calls and requests without a token that is accepted');
  const security = config.security ?? { tls: undefined, tokenFile: undefined, httpAuth: 'all' };
  const guard = stack.use(new Guard({ config: security, log, refused }));
  const { identity } = guard;
  if (identity !== undefined) {
    const help = 'When the certificate ends, in seconds since 1970';
    metrics.gauge('gear_certificate_end_seconds', help, () => Math.floor(identity.validTo / 1000));
  }
  const store = stack.use(await openStore({ root: config.root, log, grace: config.grace, rebuild: config.rebuild }));
  const draining = new AbortController();
  const stop = new AbortController();
  stack.use(startJanitor(store, config.grace, log));
  const storeExport = stack.use(
    await startExport({ config: config.nfs, objects: store.layout.objects, root: config.root, log }),
  );

  const profiles = stack.use(await Profiles.open(store, log));
  const converted: Convert = async (request, options) => {
    const result = await convert(request, options);
    if (!result.unchanged) await profiles.inherit(result.image);
    return result;
  };
  const conversions = new Conversions(store, converted, log);
  const nodes = new Nodes(HEARTBEAT_SECONDS * 3 * 1000);
  const transfers = new Transfers();
  const handlers = new Handlers({
    log,
    draining: draining.signal,
    stop: stop.signal,
    calls: metrics.counter('gear_calls_total', 'gRPC calls that have ended'),
    transfers,
  });
  metrics.gauge('gear_profiles', 'Images with a start-up profile', () => profiles.size);
  describeStore(metrics, store, conversions, nodes);
  const isExported = () => storeExport.describe().state === ExportDescription_State.STATE_SERVING;
  metrics.gauge('gear_nfs_export_serving', 'Whether the NFS export answers', () => (isExported() ? 1 : 0));

  const main = createGrpcServer(config.listen, '--listen', guard);
  const health = createHealth(['gear.v1.ContentStore', 'gear.v1.Images', 'gear.v1.Export']);
  health.addTo(main.server);
  main.server.addService(
    FastContentStoreService,
    contentStoreService({
      objects: store.objects,
      handlers,
      servedObjects: metrics.counter('gear_served_ranges_total', 'Ranges of objects that were asked for'),
      servedBytes: metrics.counter('gear_served_bytes_total', 'Bytes of objects sent'),
      storedObjects: metrics.counter('gear_uploaded_objects_total', 'Objects uploaded that were new'),
      storedBytes: metrics.counter('gear_uploaded_bytes_total', 'Bytes of these'),
      profiles,
      prefetchedBytes: metrics.counter(
        'gear_prefetched_bytes_total',
        'Bytes of objects sent ahead of their first touch',
      ),
      sentBytes: metrics.counter('gear_prefetch_sent_bytes_total', 'What these were on the wire'),
    }),
  );
  main.server.addService(
    ImagesService,
    imagesService(
      store,
      conversions,
      handlers,
      (image) => profiles.inherit(image),
      () => watching?.queue.list() ?? [],
    ),
  );
  main.server.addService(ExportService, exportService(storeExport, handlers));

  addReflection(main.server, ['gear/v1/objects.proto', 'gear/v1/images.proto', 'gear/v1/export.proto']);

  const monitor = createGrpcServer(config.monitorListen, '--monitor-listen', guard);
  const monitorHealth = createHealth(['gear.v1.Monitor']);
  monitorHealth.addTo(monitor.server);
  monitor.server.addService(MonitorService, monitorService(nodes, profiles, handlers));

  addReflection(monitor.server, ['gear/v1/monitor.proto']);

  const http = createHttp({
    guard,
    metrics,
    checkStore: async () => await checkWritable(store.layout),
    stopping: () => draining.signal.aborted,
  });
  const watching = await addWatching(http, {
    config,
    store,
    conversions,
    nodes,
    metrics,
    transfers,
    stop: stop.signal,
    log,
  });
  addUi(http, { store, conversions, nodes, transfers, tags: () => watching?.queue.list() ?? [] });
  stack.use(watching);
  stack.defer(async () => await http.close());
  // The store must not be closed under a call that still works with it.
  stack.defer(async () => {
    const settled = Promise.all([handlers.settled(), conversions.settled()]).then(() => true);
    // Left alone, the wait would keep a process that has nothing more to do.
    const patience = new AbortController();
    const late = sleep(SETTLE_TIMEOUT, patience).catch(() => {});
    if ((await Promise.race([settled, late])) !== true) log.warn('something did not end in time');
    patience.abort();
  });
  stack.defer(() => stop.abort(new GearError('unavailable', 'the manager is stopping')));
  stack.defer(() => main.close());
  stack.defer(() => monitor.close());
  const addresses = {
    grpc: await main.listen(),
    monitor: await monitor.listen(),
    http: await listenHttp(http, config.httpListen),
    nfs: storeExport.address === undefined ? undefined : formatHostPort(storeExport.address),
  };
  await writeAtomically(store.layout.addresses, `${JSON.stringify(addresses, undefined, 2)}\n`, { flush: false });
  stack.defer(async () => await rm(store.layout.addresses, { force: true }));
  stack.defer(async () => {
    draining.abort(new GearError('unavailable', 'the manager is stopping'));
    await drain([main, monitor], [health, monitorHealth], stop, config.stopTimeout, log);
  });
  // Its conversions would only be cut off later; the next start goes on with them.
  stack.use(watching);
  watching?.start();
  log.info({ ...addresses, root: config.root, version: VERSION }, 'ready');
  const { grpc, monitor: monitorAddress, http: httpAddress } = addresses;
  const open = openListeners({ listen: grpc, 'monitor-listen': monitorAddress, 'http-listen': httpAddress }, security);
  if (open.length > 0) {
    log.warn({ open: open.map(({ address }) => address) }, 'whoever reaches these addresses is let in (--insecure)');
  }
  const resources = stack.move();
  return { addresses, store, [Symbol.asyncDispose]: async () => await resources.disposeAsync() };
}

/** Lets calls under way end by themselves for a while, then ends them. */
async function drain(
  servers: readonly GrpcServer[],
  healths: readonly Health[],
  stop: AbortController,
  timeout: number,
  log: Logger,
): Promise<void> {
  for (const health of healths) health.set(false);
  const drained = Promise.all(servers.map((server) => server.drain())).then(() => true);
  const patience = new AbortController();
  const late = sleep(timeout, patience).then(
    () => false,
    () => false,
  );
  const isDrained = await Promise.race([drained, late]);
  patience.abort();
  if (isDrained) return;
  log.warn({ timeout }, 'calls under way are cut off');
  stop.abort(new GearError('unavailable', 'the manager is stopping'));
  // So that the calls can say why they ended.
  await Promise.race([drained, sleep(500)]);
}

function describeStore(metrics: Metrics, store: Store, conversions: Conversions, nodes: Nodes): void {
  metrics.gauge('gear_images', 'Images in the store', () => store.totals().images);
  metrics.gauge('gear_indexes', 'Indexes in the store', () => store.totals().indexes);
  metrics.gauge('gear_objects', 'Objects in the store', () => store.usage.objects);
  metrics.gauge('gear_object_bytes', 'Bytes of the objects in the store', () => store.usage.bytes);
  metrics.gauge('gear_conversions_running', 'Conversions under way', () => conversions.size);
  metrics.gauge('gear_nodes', 'Nodes that reported lately', () => nodes.size);
}
