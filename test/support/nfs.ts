import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { until } from '#core/abort.ts';
import { objectPath } from '#core/digest.ts';
import { findProcesses } from '../../deploy/sandbox/cleanup.ts';
import { type ManagerOptions, startManager, type TestManager } from '../../deploy/sandbox/gear.ts';
import { freePort } from '../../deploy/sandbox/ports.ts';
import { describeExport } from '../../driver/remote/export-facts.ts';
import type { TestObject } from './objectfs.ts';

/** A manager that exports its store by ganesha. */
export interface NfsManager extends AsyncDisposable {
  readonly manager: TestManager;
  readonly port: number;
  /** The process id of its NFS server; throws where there is none. */
  serverPid(): Promise<number>;
  /** Waits until the manager tells nodes that it exports. */
  serving(): Promise<void>;
  /** Puts objects into the store, as an upload would. */
  store(...objects: readonly TestObject[]): Promise<void>;
}

export interface NfsManagerOptions extends ManagerOptions {
  /** Listen on all addresses, so that nodes elsewhere are told to go where they reach the manager. */
  readonly everywhere?: boolean;
}

/** Starts one on a free port, of 127.0.0.1 unless said otherwise. `args`: further options of the manager. */
export async function startNfsManager({ everywhere = false, ...options }: NfsManagerOptions = {}): Promise<NfsManager> {
  const port = await freePort();
  const args = [
    '--nfs',
    'ganesha',
    '--nfs-listen',
    `${everywhere ? '0.0.0.0' : '127.0.0.1'}:${port}`,
    ...(everywhere ? ['--nfs-allow', '127.0.0.0/8'] : []),
    ...(options.args ?? []),
  ];
  const manager = await startManager({ ...options, args });
  const serverPid = async () => {
    const configuration = join(manager.root, 'nfs', 'ganesha.conf');
    const [pid] = await findProcesses(
      ({ commandLine }) => /^ganesha\.nfsd /.test(commandLine) && commandLine.includes(configuration),
    );
    if (pid === undefined) throw new Error(`no ganesha.nfsd runs with ${configuration}`);
    return pid;
  };
  return {
    manager,
    port,
    serverPid,
    serving: async () => {
      await until('the export serves', async () => {
        try {
          return (await describeExport(manager.address)) !== undefined;
        } catch {
          return false;
        }
      });
    },
    store: async (...objects) => {
      for (const { digest, bytes } of objects) {
        const path = join(manager.root, 'objects', objectPath(digest));
        await mkdir(dirname(path), { recursive: true });
        await writeFile(path, bytes, { mode: 0o444 });
      }
    },
    [Symbol.asyncDispose]: () => manager[Symbol.asyncDispose](),
  };
}
