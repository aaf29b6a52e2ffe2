import type { NodeStatus } from '../../driver/status/node-status.ts';
import type { DockerClient } from '../sandbox/docker.ts';
import { startDockerd } from '../sandbox/dockerd.ts';
import { gear, gearJson, startDriver } from '../sandbox/gear.ts';
import type { Registry } from '../sandbox/registry.ts';

/** One start of a container, measured from `docker run` (pull included) to its first line of output. */
export interface Start {
  readonly milliseconds: number;
  readonly firstLine: string;
  /** Bytes that came from the registry and from the manager. */
  readonly fetchedBytes: number;
  /** Objects that came from the manager; undefined where images are pulled whole. */
  readonly fetchedObjects: number | undefined;
}

export interface Surroundings {
  readonly registry: Registry;
  /** What the containers run; empty: what the image says. */
  readonly command: readonly string[];
  readonly signal: AbortSignal;
}

const RUN = ['run', '--rm', '--network=none'];

const bytesFrom = (registry: Registry): number =>
  registry
    .requests()
    .filter(({ method }) => method === 'GET')
    .reduce((sum, { bytes }) => sum + bytes, 0);

/** Runs a command of the image, pulled before where `pull` says so; gives the milliseconds to the first line of output, and that line. */
async function timedRun(docker: DockerClient, image: string, pull: boolean, { command, signal }: Surroundings) {
  const started = performance.now();
  if (pull) await docker.run(['pull', '--quiet', image], { timeout: 3_600_000, signal });
  const pulled = performance.now() - started;
  const { milliseconds, output } = await docker.firstLine([...RUN, image, ...command], { signal });
  return { milliseconds: pulled + milliseconds, firstLine: output.split('\n')[0] ?? '' };
}

/** Runs the image twice on a fresh node with overlay2. */
export async function startOnOverlay2(image: string, around: Surroundings): Promise<[Start, Start]> {
  const { registry } = around;
  await using dockerd = await startDockerd();
  const start = async (pull: boolean): Promise<Start> => {
    const before = bytesFrom(registry);
    const run = await timedRun(dockerd.docker, image, pull, around);
    return { ...run, fetchedBytes: bytesFrom(registry) - before, fetchedObjects: undefined };
  };
  return [await start(true), await start(false)];
}

/** Runs the Gear image twice on a fresh node with Gear; gives the image's objects too. */
export async function startOnGear(
  image: string,
  manager: { readonly address: string; readonly monitor: string },
  around: Surroundings,
): Promise<{ starts: [Start, Start]; objects: number; bytes: number }> {
  const { registry, signal } = around;
  await using driver = await startDriver({ manager: manager.address, monitor: manager.monitor });
  await using dockerd = await startDockerd({ storageDriver: driver.plugin });
  const status = async () => await gearJson<NodeStatus>(['status', '--root', driver.root], { signal });
  const start = async (pull: boolean): Promise<Start> => {
    const [before, seen] = [await status(), bytesFrom(registry)];
    const run = await timedRun(dockerd.docker, image, pull, around);
    const after = await status();
    return {
      ...run,
      fetchedBytes:
        bytesFrom(registry) - seen + after.objectFilesystem.fetchedBytes - before.objectFilesystem.fetchedBytes,
      fetchedObjects: after.objectFilesystem.fetchedObjects - before.objectFilesystem.fetchedObjects,
    };
  };
  const starts: [Start, Start] = [await start(true), await start(false)];
  const [found] = (await status()).images;
  return { starts, objects: found?.objects ?? 0, bytes: found?.bytes ?? 0 };
}

/** Converts an image of the registry and gives the name of the Gear image, without a transport. Throws with what the converter said. */
export async function convert(
  image: string,
  manager: { readonly address: string },
  signal: AbortSignal,
): Promise<string> {
  const destination = `${image.slice(0, image.lastIndexOf(':'))}-gear:latest`;
  const { exitCode, stderr } = await gear(
    ['convert', '--manager', manager.address, `docker://${image}`, `docker://${destination}`],
    { timeout: 3_600_000, signal },
  );
  if (exitCode !== 0) throw new Error(`gear convert ${image}: exit code ${exitCode}\n${stderr}`);
  return destination;
}
