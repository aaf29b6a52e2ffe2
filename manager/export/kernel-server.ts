import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { GearError, messageOf, orUndefined } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { checkServer } from './check.ts';
import type { Exported } from './exported.ts';
import type { ExportConfig } from './options.ts';
import type { Probe } from './probe-file.ts';
import type { NfsServer, ServerState } from './server.ts';

const CHECK_MS = 10_000;
/** Where the kernel says which versions its server speaks: "-2 -3 +4 +4.0 +4.1 -4.2". */
const VERSIONS = '/proc/fs/nfsd/versions';
const NOBODY = 65_534;

export interface KernelServerOptions {
  readonly config: ExportConfig;
  readonly objects: string;
  readonly probe: Probe;
  readonly exported: Exported;
  readonly log: Logger;
}

/** What exportfs is told for each client. "insecure": clients need no port below 1024. */
export function exportOptions(fsid: string): string {
  const rights = ['ro', 'all_squash', `anonuid=${NOBODY}`, `anongid=${NOBODY}`, 'insecure', 'no_subtree_check'];
  return [...rights, 'sec=sys', 'async', `fsid=${fsid}`].join(',');
}

/** "CLIENT:PATH" as exportfs takes it. Throws invalid-argument for a path that it would take apart. */
export function exportName(network: string, objects: string): string {
  if (!/^\/[^\s:,\\"']*$/.test(objects)) {
    throw new GearError(
      'invalid-argument',
      `${objects} cannot be exported: no spaces, colons, commas, quotes in --root`,
    );
  }
  const [address = '', bits] = network.split('/');
  return isIP(address) === 6 ? `[${address}]/${bits}:${objects}` : `${network}:${objects}`;
}

/** The versions that the kernel's server speaks, of those that are wanted. */
export function spokenVersions(text: string, wanted: readonly string[]): string[] {
  const words = text.trim().split(/\s+/);
  return wanted.filter((version) => words.includes(`+${version}`));
}

/** Exports the objects through the kernel's own NFS server, which has to run already: adds and removes exactly this export. */
export async function startKernelServer(options: KernelServerOptions): Promise<NfsServer> {
  const { config, objects, probe, exported, log } = options;
  const text = await orUndefined(readFile(VERSIONS, 'utf8'), 'ENOENT');
  const spoken = text === undefined ? [] : spokenVersions(text, config.versions);
  if (spoken.length === 0) {
    const found = text === undefined ? 'it does not run (nfs-kernel-server, and a kernel that has it)' : text.trim();
    throw new GearError(
      'failed-precondition',
      `--nfs kernel: the kernel's NFS server speaks none of ${config.versions.join(', ')}: ${found}`,
    );
  }
  await using stack = new AsyncDisposableStack();
  // The same for the same store, so that clients find their files again after a restart.
  const fsid = probe.digest.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5');
  const names = config.allow.map((network) => exportName(network, objects));
  stack.defer(() => exported.keepOnly([]));
  await exported.keepOnly(names);
  await exported.add(names, exportOptions(fsid));
  let state: ServerState = { serving: true, reason: '' };
  const stop = new AbortController();
  const check = async () => {
    try {
      await checkServer(
        { ...config, versions: config.versions.filter((v) => spoken.includes(v)) },
        objects,
        probe,
        stop.signal,
      );
      state = { serving: true, reason: '' };
    } catch (error) {
      if (stop.signal.aborted) return;
      if (state.serving) log.error({ err: error }, 'the NFS server does not answer');
      state = { serving: false, reason: messageOf(error) };
    }
  };
  await check();
  const timer = setInterval(() => void check(), CHECK_MS);
  timer.unref();
  stack.defer(async () => {
    clearInterval(timer);
    stop.abort();
  });
  const owned = stack.move();
  return {
    path: objects,
    get state() {
      return state;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
