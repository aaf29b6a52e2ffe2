import { createServer } from 'node:net';
import { join } from 'node:path';
import { digestToBytes } from '#core/digest.ts';
import type { HostPort } from '#core/grpc/address.ts';
import type { Logger } from '#core/log.ts';
import { type ExportDescription, ExportDescription_State } from '#proto/gen/gear/v1/export.ts';
import { Exported } from './exported.ts';
import { startGanesha } from './ganesha.ts';
import { startKernelServer } from './kernel-server.ts';
import type { ExportConfig } from './options.ts';
import { writeProbe } from './probe-file.ts';

/** The manager's NFS export, or that there is none. */
export interface StoreExport extends AsyncDisposable {
  /** What nodes are told. */
  describe(): ExportDescription;
  /** Where its server listens; undefined where there is none. */
  readonly address: HostPort | undefined;
}

const OFF: ExportDescription = {
  state: ExportDescription_State.STATE_OFF,
  reason: 'the manager runs with --nfs off',
  host: '',
  port: 0,
  path: '',
  versions: [],
  probe: undefined,
};

/** Exports the objects of a store as the configuration says, and waits until nodes can read them. Throws failed-precondition. */
export async function startExport(options: {
  readonly config: ExportConfig | undefined;
  /** The folder of objects, and the manager's root. */
  readonly objects: string;
  readonly root: string;
  readonly log: Logger;
}): Promise<StoreExport> {
  const { objects, root, log } = options;
  const exported = await Exported.open(join(root, 'nfs', 'exported'), log);
  if (options.config?.kind !== 'kernel') await exported.keepOnly([]);
  if (options.config === undefined || options.config.kind === 'off') {
    return { describe: () => OFF, address: undefined, [Symbol.asyncDispose]: async () => {} };
  }
  const probe = await writeProbe(objects);
  const listen = await withPort(options.config.listen);
  const config = { ...options.config, listen };
  const server =
    config.kind === 'ganesha'
      ? await startGanesha({ config, objects, folder: join(root, 'nfs'), probe, log })
      : await startKernelServer({ config, objects, probe, exported, log });
  const isEverywhere = listen.host === '0.0.0.0' || listen.host === '::';
  return {
    address: listen,
    describe: () => {
      const { serving, reason } = server.state;
      return {
        state: serving ? ExportDescription_State.STATE_SERVING : ExportDescription_State.STATE_DOWN,
        reason,
        host: isEverywhere ? '' : listen.host,
        port: listen.port,
        path: server.path,
        versions: [...config.versions],
        probe: { path: probe.path, size: BigInt(probe.size), digest: digestToBytes(probe.digest) },
      };
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** Chooses a free port for port 0: an NFS server does not say which one it got. */
async function withPort({ host, port }: HostPort): Promise<HostPort> {
  if (port !== 0) return { host, port };
  const server = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.once('error', reject).listen({ host, port: 0 }, () => {
    const address = server.address();
    if (address !== null && typeof address === 'object') resolve(address.port);
  });
  const free = await promise;
  const { promise: closed, resolve: done } = Promise.withResolvers<void>();
  server.close(() => done());
  await closed;
  return { host, port: free };
}
