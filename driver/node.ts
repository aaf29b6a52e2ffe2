import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from '#core/atomic-file.ts';
import type { Digest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { lockFolder } from '#core/process-lock.ts';
import { VERSION } from '#core/version.ts';
import type { DriverConfig } from './config.ts';
import { ContainerdFrontEnd } from './containerd/front-end.ts';
import { GearPlugin } from './docker/gear/gear-plugin.ts';
import { servePlugin } from './docker/server.ts';
import { expectIndexes, type IndexFormat } from './images/compile.ts';
import { ImageStore } from './images/image-store.ts';
import { detachNfs } from './kernel/nfs-mount.ts';
import { bestIndexFormat, expectOverlay } from './kernel/probe.ts';
import { keepFilling } from './nfs/fill.ts';
import { NodeMount } from './nfs/node-mount.ts';
import { ensureObjectFilesystem } from './objectfs/client.ts';
import type { ObjectFilesystem } from './objectfs/interface.ts';
import { type NodePaths, nodePaths } from './paths.ts';
import { reportTouches } from './prefetch/report.ts';
import { CONTROL_SOCKET, serveControl } from './status/control-server.ts';
import { sendHeartbeats } from './status/heartbeat.ts';
import { heartbeatOf } from './status/heartbeat-report.ts';
import { type NodeStatus, nodeStatus } from './status/node-status.ts';

/** The parts of a node that every front end stands on. */
interface Node extends AsyncDisposable {
  readonly paths: NodePaths;
  readonly objects: ObjectFilesystem;
  readonly images: ImageStore;
  /** With --data-path nfs. */
  readonly nfs: NodeMount | undefined;
  readonly plugin: GearPlugin;
  /** Left out: not configured. */
  readonly containerd: ContainerdFrontEnd | undefined;
  /** Ends the object filesystem again if this start has begun it; for a start that fails. Moved away once the driver is ready. */
  readonly undoStart: AsyncDisposableStack;
}

function nodeMount(config: DriverConfig, paths: NodePaths, log: Logger): NodeMount {
  return new NodeMount({
    target: paths.nfs,
    manager: config.manager,
    access: config.access,
    ...config.nfs,
    deadline: config.fetchDeadline,
    log: log.child({ part: 'nfs' }),
  });
}

/** Opens the node's folders and what runs over them. Needs no network. Disposing it leaves the object filesystem and all mounts alone. */
async function openNode(config: DriverConfig, log: Logger, signal: AbortSignal): Promise<Node> {
  await using stack = new AsyncDisposableStack();
  await mkdir(config.root, { recursive: true, mode: 0o700 });
  stack.use(await lockFolder(config.root, 'driver'));
  const paths = nodePaths(config.root);
  await mkdir(paths.run, { recursive: true, mode: 0o700 });
  const format: IndexFormat = config.indexFormat === 'auto' ? await bestIndexFormat(config.root) : config.indexFormat;
  if (format === 'tree' && (config.containerdSocket !== '' || config.dataPath === 'nfs')) {
    throw new GearError(
      'failed-precondition',
      'without data-only layers of overlayfs (kernel 6.5) Gear serves whole trees: neither --containerd-socket nor --data-path nfs works with that',
    );
  }
  const nfs = config.dataPath === 'nfs' ? stack.use(nodeMount(config, paths, log)) : undefined;
  const ready = Promise.withResolvers<ObjectFilesystem>();
  // Nobody waits for it, and it is asked again when the image is mounted.
  const prefetch = (image: Digest, early?: string) => {
    const ask = (objects: ObjectFilesystem) =>
      early === undefined ? objects.prefetch(image) : objects.prefetchEarly(image, early);
    ready.promise.then(ask).catch(() => {});
  };
  const images = await ImageStore.open({
    paths,
    format,
    objects: nfs && (() => nfs.folder()),
    onImport: prefetch,
    log,
  });
  const objects = await ensureObjectFilesystem({
    root: config.root,
    settings: {
      manager: config.manager,
      access: config.access,
      deadline: config.fetchDeadline,
      cacheSize: config.cacheSize ?? 0,
      fetch: config.fetch,
      prefetch: config.prefetch,
      fill: config.fill === 'idle' && config.dataPath === 'fuse' ? 'idle' : 'eager',
      audit: config.audit,
      recordLongest: config.recordLongest,
      recordIdle: config.recordIdle,
      logLevel: config.logLevel,
    },
    log,
    signal,
  });
  await using started = new AsyncDisposableStack();
  if (!objects.adopted) started.defer(() => objects.stop());
  ready.resolve(objects);
  const plugin = await GearPlugin.open(config.root, {
    images,
    statusLines: () => [
      ['Gear Root', config.root],
      ['Gear Version', VERSION],
      ['Manager', config.manager],
      ['Index Format', format],
      ['Data Path', config.dataPath],
    ],
    log,
  });
  const containerd =
    config.containerdSocket === ''
      ? undefined
      : stack.use(
          await ContainerdFrontEnd.open({ paths, images, manager: config.manager, access: config.access, log }),
        );
  await images.sweep();
  const release = stack.move();
  const undoStart = started.move();
  return {
    paths,
    objects,
    images,
    nfs,
    plugin,
    containerd,
    undoStart,
    [Symbol.asyncDispose]: () => release.disposeAsync(),
  };
}

/** Runs the driver until `signal` aborts; `onReady` is called when it serves. Throws failed-precondition for a root, socket or kernel that it cannot work with. */
export async function runDriver(
  config: DriverConfig,
  log: Logger,
  signal: AbortSignal,
  onReady: () => Promise<void> = async () => {},
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  await expectOverlay(config.root);
  const node = stack.use(await openNode(config, log, signal));
  stack.use(node.undoStart);
  expectIndexes();
  const status = async (): Promise<NodeStatus> =>
    await nodeStatus({
      version: VERSION,
      paths: node.paths,
      images: node.images,
      snapshots: [
        ...node.plugin.drivers().map(({ snapshots }) => snapshots),
        ...(node.containerd === undefined ? [] : [node.containerd.snapshots]),
      ],
      containerd: node.containerd?.status(config.containerdSocket),
      stats: await node.objects.stats({ signal }),
      nfs: node.nfs?.status(),
    });
  stack.use(await serveControl(join(node.paths.run, CONTROL_SOCKET), status));
  const server = stack.use(
    await servePlugin({
      name: config.pluginName,
      listen: config.listen,
      init: (options) => node.plugin.init(options),
      current: () => node.plugin.current,
      log,
    }),
  );
  if (node.containerd !== undefined) stack.use(await node.containerd.serve(config.containerdSocket));
  const heartbeats = sendHeartbeats({
    monitor: config.monitor,
    access: config.access,
    report: async () => heartbeatOf(config.node, await status()),
    log,
    signal,
  });
  stack.defer(() => heartbeats);
  const reporting = reportTouches({
    monitor: config.monitor,
    access: config.access,
    node: config.node,
    take: () => node.objects.takeTouches({ signal }),
    log: log.child({ part: 'touches' }),
    signal,
  });
  stack.defer(() => reporting);
  if (node.nfs !== undefined || config.fill !== 'off') {
    const filling = keepFilling(node.images, node.objects, log, signal);
    stack.defer(() => filling);
  }
  const facts = join(node.paths.run, 'driver.json');
  await writeAtomically(facts, JSON.stringify({ pid: process.pid, address: server.address }), { flush: false });
  stack.defer(() => rm(facts, { force: true }));
  log.info(
    { root: config.root, address: server.address, manager: config.manager, adopted: node.objects.adopted },
    'ready',
  );
  node.undoStart.move();
  await onReady();
  if (!signal.aborted) {
    const { promise, resolve } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => resolve(), { once: true });
    await promise;
  }
  log.info('stopping; containers keep their mounts');
}

/** Unmounts all of a root whose driver is stopped, and ends its object filesystem. */
export async function shutDownNode(config: DriverConfig, log: Logger, signal: AbortSignal): Promise<void> {
  await using node = await openNode({ ...config, dataPath: 'fuse' }, log, signal);
  for (const { snapshots } of node.plugin.drivers()) await snapshots.unmountAll();
  await node.images.unmountAll();
  await detachNfs(node.paths.nfs, { timeout: 5_000 });
  await node.objects.stop({ signal });
  log.info({ root: config.root }, 'shut down');
}
