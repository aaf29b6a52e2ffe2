import { type Check, type CheckState, check } from './check.ts';
import { type ContainerdFacts, type ContainerdProxy, PROXY } from './containerd.ts';

const TEXTS = 'deploy/containerd';

/** Whether a version is `major.minor` or later; one that cannot be read is. */
function isFrom(version: string, major: number, minor: number): boolean {
  const [, ownMajor, ownMinor] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  if (ownMajor === undefined) return true;
  return Number(ownMajor) > major || (Number(ownMajor) === major && Number(ownMinor) >= minor);
}

function proxyCheck(proxy: ContainerdProxy | undefined, socket: string, file: string, absent: CheckState): Check {
  const title = `proxy_plugins.${PROXY}`;
  const id = 'containerd.proxy-plugin';
  const cost = 'containerd does not know the snapshotter, and no image is mounted through Gear';
  const remedy = `[proxy_plugins.${PROXY}] with type = "snapshot" and address = "${socket}" in config.toml, as in ${file}; then restart containerd`;
  if (proxy === undefined) return check(id, title, absent, 'not in the configuration', { cost, remedy });
  if (proxy.type !== 'snapshot')
    return check(id, title, 'missing', `type is ${JSON.stringify(proxy.type)}, not "snapshot"`, { cost, remedy });
  if (proxy.address === socket) return check(id, title, 'ok', proxy.address);
  return check(id, title, 'missing', `address is ${JSON.stringify(proxy.address)}; the driver serves ${socket}`, {
    cost: 'every pull and every start through Gear fails: containerd asks where nobody answers',
    remedy: `the same path in both: address = "${socket}" in config.toml, or gear driver --containerd-socket ${proxy.address}`,
  });
}

/**
 * The checks of containerd. Where neither its configuration nor the driver speaks of the other, nothing is missing: Docker's graphdriver
 * does without.
 */
export function containerdChecks(facts: ContainerdFacts): Check[] {
  const { version, config, configError, socket, socketError } = facts;
  const wanted = facts.wanted || config?.proxy !== undefined;
  const absent: CheckState = wanted ? 'missing' : 'unknown';
  const supported = version !== undefined && isFrom(version, 1, 6);
  const checks = [
    check('containerd.version', 'version', supported ? 'ok' : absent, version ?? 'no containerd on the PATH', {
      cost: 'Kubernetes, nerdctl and Docker from 28 on cannot run images through Gear',
      remedy: 'containerd 1.6 or later (Debian: apt install containerd)',
    }),
    check(
      'containerd.socket',
      "driver's socket",
      socketError === '' ? 'ok' : absent,
      `${socket} ${socketError}`.trim(),
      {
        cost: 'containerd cannot pull, start or remove what it mounts through Gear',
        remedy: `gear driver --containerd-socket ${socket}, as a service that starts before containerd.service`,
      },
    ),
  ];
  if (version === undefined) return checks;
  const file = `${TEXTS}/containerd-${isFrom(version, 2, 0) ? 2 : 1}.toml`;
  if (config === undefined) {
    const advice = {
      cost: 'what it says of Gear could not be checked; containerd may not start with it either',
      remedy: 'run containerd config dump and mend what it names, or name the file with --containerd-config',
    };
    return [
      ...checks,
      check('containerd.config', 'configuration', wanted ? 'warning' : 'unknown', configError, advice),
    ];
  }
  const { proxy, cri } = config;
  checks.push(proxyCheck(proxy, socket, file, absent));
  const usesGear = cri?.snapshotter === PROXY;
  checks.push(
    check(
      'containerd.cri-snapshotter',
      "CRI's snapshotter",
      usesGear ? 'ok' : cri === undefined || !wanted ? 'unknown' : 'warning',
      cri === undefined ? 'CRI is off' : cri.snapshotter,
      {
        cost: 'Kubernetes downloads and unpacks whole images (other clients name the snapshotter themselves)',
        remedy: `snapshotter = "${PROXY}" for CRI, as in ${file}${cri === undefined ? ', and CRI out of disabled_plugins' : ''}`,
      },
    ),
  );
  if (cri !== undefined) {
    checks.push(
      check(
        'containerd.cri-annotations',
        "CRI's annotations",
        cri.annotations ? 'ok' : usesGear ? 'missing' : 'unknown',
        `disable_snapshot_annotations = ${!cri.annotations}`,
        {
          cost: 'Gear is not told which layer it is asked for, and every image of Kubernetes is downloaded and unpacked',
          remedy: `disable_snapshot_annotations = false beside CRI's snapshotter, as in ${file}`,
        },
      ),
    );
  }
  if (proxy !== undefined && isFrom(version, 2, 1)) {
    checks.push(
      check(
        'containerd.transfer-annotations',
        "transfer service's annotations",
        proxy.remoteAnnotations ? 'ok' : 'warning',
        `enable_remote_snapshot_annotations is ${proxy.remoteAnnotations ? '"true"' : 'not set'}`,
        {
          cost: 'images that are pulled through the transfer service are downloaded and unpacked',
          remedy: `enable_remote_snapshot_annotations = "true" in [proxy_plugins.${PROXY}.exports], as in ${file}`,
        },
      ),
    );
  }
  return checks;
}
