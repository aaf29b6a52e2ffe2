import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Abortable, deadline, orAbort } from '#core/abort.ts';
import { isErrno, messageOf, orUndefined } from '#core/errors.ts';
import { VERSION } from '#core/version.ts';
import { PluginClient } from '../docker/client.ts';
import { nodePaths } from '../paths.ts';
import { CONTROL_SOCKET } from '../status/control-server.ts';
import type { NodeStatus } from '../status/node-status.ts';
import { type Check, check } from './check.ts';
import { httpGet } from './http-get.ts';

const TIMEOUT = 5_000;

export interface DriverFacts {
  readonly root: string;
  /** Where dockerd looks for the plugin: a socket's path, or tcp://HOST:PORT. */
  readonly address: string;
  /** What the plugin implements; undefined: it does not answer, `pluginError` says why ('' where there is no socket at all). */
  readonly implements: readonly string[] | undefined;
  readonly pluginError: string;
  readonly status:
    | (Pick<NodeStatus, 'version' | 'manager' | 'managerAway' | 'images'> &
        Partial<Pick<NodeStatus, 'nfs' | 'containerd' | 'access'>>)
    | undefined;
  readonly statusError: string;
}

async function activate(address: string, { signal }: Abortable): Promise<readonly string[]> {
  using limit = deadline(TIMEOUT, `plugin at ${address}`, signal);
  using client = new PluginClient(address);
  return await orAbort(client.activate({ signal: limit }), limit);
}

async function status(root: string, options: Abortable): Promise<DriverFacts['status']> {
  const socketPath = join(nodePaths(root).run, CONTROL_SOCKET);
  const answer = await httpGet({ socketPath }, '/status', { timeout: TIMEOUT, ...options });
  if (answer.status !== 200) throw new Error(`${socketPath} answers ${answer.status}: ${answer.body.slice(0, 200)}`);
  return JSON.parse(answer.body) as NodeStatus;
}

/** Where the driver of this root said that its plugin is; undefined where it never ran. */
async function saidAddress(root: string): Promise<string | undefined> {
  const text = await orUndefined(
    readFile(join(nodePaths(root).run, 'driver.json'), 'utf8'),
    'ENOENT',
    'ENOTDIR',
    'EACCES',
  );
  const address: unknown = text === undefined ? undefined : (JSON.parse(text) as { address?: unknown }).address;
  return typeof address === 'string' ? address : undefined;
}

/** Asks the driver of this root, on the way that dockerd takes and on its own. `socket`: where the plugin is, unless the driver said so itself. */
export async function lookAtDriver(root: string, socket: string, options: Abortable = {}): Promise<DriverFacts> {
  const address = (await saidAddress(root)) ?? socket;
  const isSocket = !address.startsWith('tcp://');
  const path = address.replace(/^unix:\/\//, '');
  const there = !isSocket || (await orUndefined(stat(path), 'ENOENT', 'ENOTDIR', 'EACCES')) !== undefined;
  const [plugin, facts] = await Promise.allSettled([
    there ? activate(address, options) : Promise.resolve(undefined),
    status(root, options),
  ]);
  options.signal?.throwIfAborted();
  const absent = facts.status === 'rejected' && isErrno(facts.reason, 'ENOENT', 'ECONNREFUSED', 'ENOTDIR');
  return {
    root,
    address,
    implements: plugin.status === 'fulfilled' ? plugin.value : undefined,
    pluginError: plugin.status === 'rejected' ? messageOf(plugin.reason) : '',
    status: facts.status === 'fulfilled' ? facts.value : undefined,
    statusError: facts.status === 'fulfilled' || absent ? '' : messageOf(facts.reason),
  };
}

/** The checks of the driver. `inUse`: the engine uses it, so it has to be there; else it may not be installed yet. */
export function driverChecks(facts: DriverFacts, inUse: boolean): Check[] {
  const { address, pluginError, status: running, statusError, root } = facts;
  const graphdriver = facts.implements?.includes('GraphDriver') ?? false;
  const absent = inUse ? 'missing' : 'warning';
  const plugin = graphdriver
    ? `answers at ${address}`
    : facts.implements !== undefined
      ? `${address} is no graphdriver: it implements ${JSON.stringify(facts.implements)}`
      : pluginError === ''
        ? `nothing at ${address}`
        : `${address}: ${pluginError}`;
  const broken = pluginError !== '' || facts.implements !== undefined;
  const state = running !== undefined ? `version ${running.version}, ${running.images.length} images` : statusError;
  const advice = {
    cost: 'dockerd cannot use the driver',
    remedy: `gear driver --root ${root}, as a service that starts before docker.service`,
  };
  return [
    check('driver.plugin', 'graphdriver plugin', graphdriver ? 'ok' : broken ? 'missing' : absent, plugin, advice),
    check(
      'driver.status',
      'gear driver',
      running === undefined
        ? statusError === ''
          ? absent
          : 'missing'
        : running.version === VERSION
          ? 'ok'
          : 'warning',
      running === undefined && statusError === '' ? `does not run for ${root}` : state,
      running === undefined
        ? advice
        : { cost: `it is not the version of this command (${VERSION})`, remedy: 'restart it; containers keep running' },
    ),
  ];
}
