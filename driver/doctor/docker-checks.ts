import { type Check, type CheckState, check } from './check.ts';
import { PROXY } from './containerd.ts';
import type { DockerEngine, DockerFacts } from './docker.ts';

/** The last engine that takes graphdriver plugins, and the first that needs more than --experimental for it. */
const LAST_MAJOR = 27;
const VARIABLE = 'DOCKERD_DEPRECATED_GRAPHDRIVER_PLUGINS';

function major(version: string): number {
  return Number.parseInt(version, 10);
}

function engineCheck({ engine, daemon, error }: DockerFacts): Check {
  const version = engine?.version ?? daemon;
  const advice = {
    cost: 'no Docker engine can use the gear graphdriver here',
    remedy: `a Docker engine from 17 to ${LAST_MAJOR} (Debian: apt install docker.io), or a newer one through containerd, as in deploy/containerd/README.md`,
  };
  if (version === undefined) return check('docker.engine', 'Docker engine', 'missing', error || 'none', advice);
  if (major(version) > LAST_MAJOR)
    return check('docker.engine', 'Docker engine', 'missing', `${version}; ${LAST_MAJOR} or older is needed`, advice);
  if (engine !== undefined) return check('docker.engine', 'Docker engine', 'ok', version);
  return check('docker.engine', 'Docker engine', 'warning', `${version}, but it does not answer: ${error}`, {
    cost: 'its options could not be checked',
    remedy: 'start dockerd, or name its socket with --docker-host',
  });
}

/** The checks of an engine that keeps its images in containerd, where that knows Gear: graphdriver plugins are not needed. */
function throughContainerd({ version, storageDriver }: DockerEngine): Check[] {
  const inUse = storageDriver === PROXY;
  return [
    check('docker.engine', 'Docker engine', 'ok', `${version}, with its images in containerd`),
    check('docker.storage-driver', 'snapshotter in use', inUse ? 'ok' : 'warning', storageDriver || 'unknown', {
      cost: 'images are downloaded and unpacked as a whole',
      remedy: '{"storage-driver": "gear"} in /etc/docker/daemon.json, as in deploy/containerd/docker-daemon.json',
    }),
  ];
}

/** The checks of Docker. `containerdKnowsGear`: its configuration names the driver. `pluginName`: what dockerd calls the driver. */
export function dockerChecks(facts: DockerFacts, pluginName: string, containerdKnowsGear = false): Check[] {
  const { client, engine } = facts;
  const viaContainerd = containerdKnowsGear && engine?.containerdImageStore === true;
  const checks = [
    check('docker.client', 'docker command', client === undefined ? 'warning' : 'ok', client ?? 'not found', {
      cost: 'this command could not ask the engine about its options',
      remedy: 'install the docker command, or run this where it is',
    }),
    ...(viaContainerd ? throughContainerd(engine) : [engineCheck(facts)]),
  ];
  if (engine === undefined || viaContainerd) return checks;
  const inUse = engine.storageDriver === pluginName;
  const needsVariable = major(engine.version) === LAST_MAJOR && !inUse;
  const flags = engine.experimental ? '--experimental is on' : '--experimental is off';
  const flagsState: CheckState = !engine.experimental ? 'missing' : needsVariable ? 'warning' : 'ok';
  checks.push(
    check('docker.flags', "dockerd's options", flagsState, flags, {
      cost: 'dockerd refuses graphdriver plugins',
      remedy: `dockerd --experimental -s ${pluginName}${needsVariable ? `, with ${VARIABLE}=1 in its environment` : ''}, or {"experimental": true, "storage-driver": "${pluginName}"} in /etc/docker/daemon.json`,
    }),
    check(
      'docker.image-store',
      'image store',
      engine.containerdImageStore ? 'missing' : 'ok',
      engine.containerdImageStore ? 'containerd' : 'dockerd',
      {
        cost: 'images lie in containerd, where graphdrivers are not asked',
        remedy: '{"features": {"containerd-snapshotter": false}} in /etc/docker/daemon.json',
      },
    ),
    check(
      'docker.storage-driver',
      'storage driver in use',
      inUse ? 'ok' : 'warning',
      engine.storageDriver || 'unknown',
      {
        cost: 'containers start only when their image is here as a whole',
        remedy: `once gear driver runs: dockerd -s ${pluginName} (images of the other driver stay where they are, unseen)`,
      },
    ),
  );
  const { dataRoot, dataRootFilesystem: home } = engine;
  if (home !== undefined) {
    checks.push(
      check(
        'docker.data-root',
        "engine's data root",
        home.overlayUpper ? 'ok' : 'missing',
        `${home.name} at ${dataRoot}`,
        {
          cost: "overlayfs cannot keep containers' changes there",
          remedy: 'dockerd --data-root on ext4, xfs or btrfs',
        },
      ),
    );
  }
  return checks;
}
