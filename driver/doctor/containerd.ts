import { stat } from 'node:fs/promises';
import { execa } from 'execa';
import type { Abortable } from '#core/abort.ts';
import { isGearError, messageOf, orUndefined } from '#core/errors.ts';
import { Connection } from '#core/grpc/client.ts';
import { SnapshotsService } from '#proto/gen/containerd/services/snapshots/v1/snapshots.ts';
import { PrintedToml } from './printed-toml.ts';

const TIMEOUT = 10_000;
/** What containerd calls the driver: the files of deploy/containerd say it. */
export const PROXY = 'gear';
/** The CRI's parts that choose a snapshotter: of containerd 2 (configuration 3), and of 1.6 and 1.7 (configuration 2). */
const CRI_2 = 'io.containerd.cri.v1.images';
const CRI_1 = 'io.containerd.grpc.v1.cri';

/** What containerd's merged configuration says of Gear. */
export interface ContainerdConfig {
  readonly proxy: ContainerdProxy | undefined;
  /** Kubernetes' way in; undefined where it is off, or not in this containerd. */
  readonly cri: { readonly snapshotter: string; readonly annotations: boolean } | undefined;
}

export interface ContainerdProxy {
  readonly type: string;
  /** Without "unix://". */
  readonly address: string;
  /** Whether the transfer service tells it the layers (containerd 2.1 and later). */
  readonly remoteAnnotations: boolean;
}

/** What is known of containerd on this machine. */
export interface ContainerdFacts {
  /** Of the program; undefined: there is none. */
  readonly version: string | undefined;
  /** Undefined: it could not be read, `configError` says why. */
  readonly config: ContainerdConfig | undefined;
  readonly configError: string;
  /** Where the driver serves containerd, or would. */
  readonly socket: string;
  /** Whether somebody said that it is served there. */
  readonly wanted: boolean;
  /** Why no snapshotter answers there; '' where one does. */
  readonly socketError: string;
}

/** Reads what `containerd config dump` printed, of configuration 2 or 3. */
export function readContainerdConfig(dump: string): ContainerdConfig {
  const toml = new PrintedToml(dump);
  const disabled = toml.list('disabled_plugins');
  const table = toml.hasTable('plugins', CRI_2) ? ['plugins', CRI_2] : ['plugins', CRI_1, 'containerd'];
  const snapshotter = toml.text(...table, 'snapshotter');
  const isOff = [CRI_1, CRI_2, 'cri'].some((name) => disabled.includes(name));
  return {
    proxy: toml.hasTable('proxy_plugins', PROXY)
      ? {
          type: toml.text('proxy_plugins', PROXY, 'type') ?? '',
          address: (toml.text('proxy_plugins', PROXY, 'address') ?? '').replace(/^unix:\/\//, ''),
          remoteAnnotations:
            toml.text('proxy_plugins', PROXY, 'exports', 'enable_remote_snapshot_annotations') === 'true',
        }
      : undefined,
    cri:
      isOff || snapshotter === undefined
        ? undefined
        : // containerd's own default leaves the annotations out.
          { snapshotter, annotations: toml.flag(...table, 'disable_snapshot_annotations') === false },
  };
}

/** Reads "containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7". */
export function readContainerdVersion(text: string): string | undefined {
  return /\bv?(\d+\.\d+\.\d+[^\s]*)/.exec(text)?.[1];
}

async function run(args: readonly string[], { signal }: Abortable) {
  return await execa('containerd', args, {
    reject: false,
    timeout: TIMEOUT,
    stdin: 'ignore',
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
}

/** Why no snapshotter answers at a socket; '' where one does. Asks for a snapshot that nobody has. */
async function askSocket(socket: string, options: Abortable): Promise<string> {
  if ((await orUndefined(stat(socket), 'ENOENT', 'ENOTDIR', 'EACCES')) === undefined) return 'nothing there';
  using connection = new Connection(`unix:${socket}`);
  try {
    await connection.unary(
      SnapshotsService.stat,
      { snapshotter: PROXY, key: 'gear doctor' },
      { ...options, timeout: TIMEOUT },
    );
    return '';
  } catch (error) {
    options.signal?.throwIfAborted();
    return isGearError(error, 'not-found') ? '' : messageOf(error);
  }
}

/** Asks the containerd program for its configuration (`file`: another than its usual one), and the driver's socket for an answer. */
export async function lookAtContainerd(
  file: string | undefined,
  { socket, wanted }: Pick<ContainerdFacts, 'socket' | 'wanted'>,
  options: Abortable = {},
): Promise<ContainerdFacts> {
  const [version, dump, socketError] = await Promise.all([
    run(['--version'], options),
    run([...(file === undefined ? [] : ['--config', file]), 'config', 'dump'], options),
    askSocket(socket, options),
  ]);
  options.signal?.throwIfAborted();
  const isRead = dump.exitCode === 0;
  const said = dump.stderr?.trim().split('\n').at(-1) ?? '';
  return {
    version: version.code === 'ENOENT' ? undefined : (readContainerdVersion(version.stdout ?? '') ?? 'unknown'),
    config: isRead ? readContainerdConfig(dump.stdout) : undefined,
    configError: isRead
      ? ''
      : said || (dump.timedOut ? 'containerd config dump does not end' : (dump.shortMessage ?? '')),
    socket,
    wanted,
    socketError,
  };
}
