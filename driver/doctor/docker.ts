import { execa } from 'execa';
import type { Abortable } from '#core/abort.ts';
import { orUndefined } from '#core/errors.ts';
import { type BackingFilesystem, backingFilesystem } from '../docker/backing-filesystem.ts';

const TIMEOUT = 10_000;

/** What is known of Docker on this machine. */
export interface DockerFacts {
  /** Version of the docker command; undefined: there is none. */
  readonly client: string | undefined;
  /** Version of the dockerd program on this machine, running or not. */
  readonly daemon: string | undefined;
  /** The engine that answers. */
  readonly engine: DockerEngine | undefined;
  /** Why no engine answers. */
  readonly error: string;
}

export interface DockerEngine {
  readonly version: string;
  readonly experimental: boolean;
  /** "overlay2", or a snapshotter's name where images lie in containerd. */
  readonly storageDriver: string;
  readonly containerdImageStore: boolean;
  /** Where its graphdrivers keep their layers; the filesystem there where it is this machine's. */
  readonly dataRoot: string;
  readonly dataRootFilesystem?: BackingFilesystem | undefined;
}

async function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv, { signal }: Abortable) {
  return await execa(program, args, {
    reject: false,
    timeout: TIMEOUT,
    env,
    stdin: 'ignore',
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
}

interface VersionJson {
  Client?: { Version?: string };
  Server?: { Version?: string; Experimental?: boolean } | null;
}
interface InfoJson {
  Driver?: string;
  DriverStatus?: [string, string][] | null;
  DockerRootDir?: string;
  ExperimentalBuild?: boolean;
}

function parse<T>(text: string): Partial<T> {
  try {
    return JSON.parse(text) as Partial<T>;
  } catch {
    return {};
  }
}

/** Puts together what `docker version`, `docker info` (both as JSON) and `dockerd --version` printed. */
export function readDockerFacts(version: string, info: string, daemon: string, error: string): DockerFacts {
  const { Client, Server } = parse<VersionJson>(version);
  const { Driver = '', DriverStatus, DockerRootDir = '', ExperimentalBuild } = parse<InfoJson>(info);
  const engine: DockerEngine | undefined =
    Server?.Version === undefined
      ? undefined
      : {
          version: Server.Version,
          experimental: Server.Experimental ?? ExperimentalBuild ?? false,
          storageDriver: Driver,
          containerdImageStore: (DriverStatus ?? []).some(([key]) => key === 'driver-type'),
          dataRoot: DockerRootDir,
        };
  return {
    client: Client?.Version,
    daemon: /version ([^\s,]+)/.exec(daemon)?.[1],
    engine,
    error: engine === undefined ? (error.trim().split('\n').at(-1) ?? '') : '',
  };
}

/** Asks docker and dockerd. `host`: as DOCKER_HOST; undefined: what the docker command uses by itself. */
export async function lookAtDocker(host: string | undefined, options: Abortable = {}): Promise<DockerFacts> {
  const env = host === undefined ? {} : { DOCKER_HOST: host };
  const [version, info, daemon] = await Promise.all([
    run('docker', ['version', '--format', '{{json .}}'], env, options),
    run('docker', ['info', '--format', '{{json .}}'], env, options),
    run('dockerd', ['--version'], {}, options),
  ]);
  options.signal?.throwIfAborted();
  const error =
    version.code === 'ENOENT' ? 'there is no docker command' : version.timedOut ? 'no answer' : version.stderr;
  const facts = readDockerFacts(version.stdout ?? '', info.stdout ?? '', daemon.stdout ?? '', error ?? '');
  const { engine } = facts;
  if (engine === undefined || engine.dataRoot === '') return facts;
  const dataRootFilesystem = await orUndefined(backingFilesystem(engine.dataRoot), 'ENOENT', 'ENOTDIR', 'EACCES');
  return { ...facts, engine: { ...engine, dataRootFilesystem } };
}
