import { release } from 'node:os';
import type { Abortable } from '#core/abort.ts';
import { messageOf } from '#core/errors.ts';
import type { Access } from '#core/security/access.ts';
import { probeAll } from '../kernel/probe.ts';
import { type Check, check } from './check.ts';
import { lookAtContainerd } from './containerd.ts';
import { containerdChecks } from './containerd-checks.ts';
import { lookAtDocker } from './docker.ts';
import { dockerChecks } from './docker-checks.ts';
import { driverChecks, lookAtDriver } from './driver.ts';
import { featureChecks } from './kernel-checks.ts';
import { lookAtManager, managerChecks } from './manager.ts';
import { lookAtNerdctl, nerdctlChecks } from './nerdctl.ts';
import { lookAtNfs, nfsChecks } from './nfs.ts';
import { lookAtPlace, placeChecks } from './place.ts';
import { lookAtTools, toolChecks } from './tools.ts';

export interface DiagnoseOptions extends Abortable {
  readonly root: string;
  readonly pluginName: string;
  /** The plugin's socket, where the driver has not said it. */
  readonly socket: string;
  /** As DOCKER_HOST. */
  readonly dockerHost?: string | undefined;
  /** "HOST:PORT"; undefined: the running driver's, else the default. */
  readonly manager?: string | undefined;
  readonly managerHttp?: string | undefined;
  /** How to get in there; nothing said: as the running driver does. */
  readonly access?: Access;
  /** Where containerd is meant to find the driver; undefined: where the running driver serves it, else the usual place. */
  readonly containerdSocket?: string | undefined;
  /** containerd's configuration; undefined: the file that it reads by itself. */
  readonly containerdConfig?: string | undefined;
}

const DEFAULT_MANAGER = '127.0.0.1:2019';
const DEFAULT_CONTAINERD_SOCKET = '/run/gear/containerd.sock';

/** What trying shows, on the filesystem of `existing`; or one row that says why nothing could be tried. */
async function tryFeatures(existing: string): Promise<Check[]> {
  try {
    return featureChecks(await probeAll(existing));
  } catch (error) {
    return [
      check('kernel.features', 'kernel features', 'missing', `could not be tried: ${messageOf(error)}`, {
        cost: 'nothing is known of what this kernel can do, and the driver cannot write there either',
        remedy: 'run as root, with --root on a filesystem that can be written',
      }),
    ];
  }
}

/** Looks at everything that a node needs. Changes nothing: what is tried is tried in a scratch folder that is deleted again. */
export async function diagnose(options: DiagnoseOptions): Promise<Check[]> {
  const { root, pluginName, signal } = options;
  const place = await lookAtPlace(root);
  const isRoot = process.getuid?.() === 0;
  const own = check('kernel.root', 'root rights', isRoot ? 'ok' : 'missing', isRoot ? 'yes' : 'no', {
    cost: 'only root may mount; what follows is what this user can do',
    remedy: 'run with sudo',
  });
  const version = check(
    'kernel.version',
    'version',
    'ok',
    `${release()} (${process.arch}), Node ${process.versions.node}`,
  );
  const features = await tryFeatures(place.existing);
  const [docker, tools, driver, nerdctl] = await Promise.all([
    lookAtDocker(options.dockerHost, { signal }),
    lookAtTools({ signal }),
    lookAtDriver(root, options.socket, { signal }),
    lookAtNerdctl({ signal }),
  ]);
  const address = options.manager ?? driver.status?.manager;
  const said = Object.keys(options.access ?? {}).length > 0;
  const access = (said ? options.access : driver.status?.access) ?? {};
  const manager = await lookAtManager(address ?? DEFAULT_MANAGER, address !== undefined, options.managerHttp, {
    signal,
    access,
  });
  const served = options.containerdSocket ?? driver.status?.containerd?.socket;
  const containerd = await lookAtContainerd(
    options.containerdConfig,
    { socket: served ?? DEFAULT_CONTAINERD_SOCKET, wanted: served !== undefined },
    { signal },
  );
  const of = (group: string) => features.filter(({ id }) => id.startsWith(`${group}.`));
  return [
    version,
    own,
    ...of('kernel'),
    ...placeChecks(place),
    ...of('root'),
    ...dockerChecks(docker, pluginName, containerd.config?.proxy !== undefined),
    ...containerdChecks(containerd),
    ...nerdctlChecks(nerdctl, containerd.wanted || containerd.config?.proxy !== undefined),
    ...toolChecks(tools),
    ...driverChecks(driver, docker.engine?.storageDriver === pluginName),
    ...managerChecks(manager),
    ...(manager.health === 'SERVING'
      ? nfsChecks(await lookAtNfs(manager.address, driver.status?.nfs, { signal, access }))
      : []),
  ];
}
