import { hostname } from 'node:os';
import { isAbsolute, join } from 'node:path';
import type { Values } from '#core/cli/command.ts';
import { GearError } from '#core/errors.ts';
import { formatHostPort, isLoopback, parseHostPort } from '#core/grpc/address.ts';
import { LOG_LEVELS } from '#core/log.ts';
import { ACCESS_OPTIONS, type Access, accessOf } from '#core/security/access.ts';
import { NFS_VERSIONS, type NfsVersion } from './kernel/nfs-mount.ts';
import { DEFAULT_ROOT } from './paths.ts';
import { FETCH_CHOICES, type FetchChoice } from './remote/manager-source.ts';

const PLUGIN_FOLDER = '/run/docker/plugins';
const DEFAULT_MANAGER = '127.0.0.1:2019';
const FILL_CHOICES = ['off', 'idle', 'eager'] as const;
const MONITOR_PORT = 2021;

/** The driver's options, as `gear driver --help` shows them. */
export const DRIVER_OPTIONS = {
  root: { type: 'string', value: 'FOLDER', default: DEFAULT_ROOT, help: 'Caches and images of this node' },
  manager: { type: 'string', value: 'HOST:PORT', help: `Where the manager answers (default: ${DEFAULT_MANAGER})` },
  'manager-ip': { type: 'string', value: 'HOST', help: 'The same in two parts' },
  'manager-port': { type: 'number', value: 'PORT', min: 1, max: 65_535, help: 'The same in two parts' },
  monitor: {
    type: 'string',
    value: 'HOST:PORT',
    help: `Where the monitor answers (default: port ${MONITOR_PORT} of the manager's host)`,
  },
  'monitor-ip': { type: 'string', value: 'HOST', help: 'The same in two parts' },
  'monitor-port': { type: 'number', value: 'PORT', min: 1, max: 65_535, help: 'The same in two parts' },
  ...ACCESS_OPTIONS,
  insecure: { type: 'flag', help: 'Send the token without TLS, too; let --tcp be used by every user of this node' },
  'plugin-name': {
    type: 'string',
    value: 'NAME',
    default: 'gear',
    help: 'What dockerd calls the driver (dockerd -s NAME)',
  },
  socket: { type: 'string', value: 'PATH', help: `The plugin's socket (default: ${PLUGIN_FOLDER}/NAME.sock)` },
  tcp: {
    type: 'string',
    value: 'HOST:PORT',
    help: 'Serve the plugin over TCP instead, with a spec file; loopback only, and only with --insecure',
  },
  'spec-folder': {
    type: 'string',
    value: 'FOLDER',
    default: '/etc/docker/plugins',
    help: 'Where the spec file goes with --tcp',
  },
  'containerd-socket': {
    type: 'string',
    value: 'PATH',
    default: '',
    help: "Serve containerd's snapshotter at this socket, e.g. /run/gear/containerd.sock (default: not served)",
  },
  'cache-size': {
    type: 'string',
    value: 'SIZE',
    default: '',
    help: 'Bytes that the cache may take, e.g. 20G (default: no limit)',
  },
  'fetch-deadline': {
    type: 'number',
    value: 'SECONDS',
    min: 1,
    max: 3600,
    default: 60,
    help: 'How long a read waits for the manager before it fails with EIO',
  },
  fetch: {
    type: 'choice',
    choices: FETCH_CHOICES,
    default: 'auto',
    help: 'How missing objects are fetched: by NFS where the manager exports them, by gRPC, or by what is faster. Start-up profiles always come over gRPC, as one compressed stream of fewer bytes',
  },
  'data-path': {
    type: 'choice',
    choices: ['fuse', 'nfs'],
    default: 'fuse',
    help: 'How containers reach what is not here yet: through the object filesystem, verified, or through the NFS client of the kernel',
  },
  'nfs-version': {
    type: 'choice',
    choices: NFS_VERSIONS,
    default: '4.1',
    help: 'The version of NFS for --data-path nfs',
  },
  'nfs-connections': {
    type: 'number',
    value: 'N',
    min: 1,
    max: 16,
    help: 'TCP connections for --data-path nfs (nconnect)',
  },
  'nfs-read-size': {
    type: 'number',
    value: 'BYTES',
    min: 4096,
    max: 1_048_576,
    help: 'Bytes of one read for --data-path nfs (rsize)',
  },
  prefetch: {
    type: 'choice',
    choices: ['on', 'off'],
    default: 'on',
    help: "Whether what an image's start-up profile names is brought here before it is asked for",
  },
  fill: {
    type: 'choice',
    choices: FILL_CHOICES,
    default: 'off',
    help: 'Whether the rest of an image is brought here too: not at all, while nobody waits for anything, or at once',
  },
  audit: {
    type: 'number',
    value: 'N',
    min: 0,
    max: 1_000_000,
    default: 16,
    help: 'One image in N starts a little slower and is watched in full, so that profiles lose what nobody needs; 0: none',
  },
  'record-longest': {
    type: 'number',
    value: 'SECONDS',
    min: 1,
    max: 86_400,
    default: 600,
    help: 'How long after the first touch of an image further ones are recorded',
  },
  'record-idle': {
    type: 'number',
    value: 'SECONDS',
    min: 1,
    max: 86_400,
    default: 30,
    help: 'After how long without a new one the recording ends',
  },
  'index-format': {
    type: 'choice',
    choices: ['auto', 'erofs', 'directory', 'tree'],
    default: 'auto',
    help: 'What shows an image: its index for the kernel, or the whole tree by FUSE',
  },
  node: { type: 'string', value: 'NAME', help: 'What the monitor knows this node by (default: the host name)' },
  shutdown: { type: 'flag', help: 'Unmount everything of this root, end the object filesystem, and exit' },
  'log-level': { type: 'choice', choices: LOG_LEVELS, default: 'info', help: 'What is logged' },
} as const;

/** What the driver runs with. */
export interface DriverConfig {
  readonly root: string;
  readonly manager: string;
  readonly monitor: string;
  /** How to get in at both. */
  readonly access: Access;
  readonly pluginName: string;
  readonly listen:
    | { readonly kind: 'unix'; readonly path: string }
    | { readonly kind: 'tcp'; readonly address: string; readonly specFolder: string };
  /** Where containerd's snapshotter is served; '': nowhere. */
  readonly containerdSocket: string;
  /** Bytes; undefined: no limit. */
  readonly cacheSize: number | undefined;
  /** Milliseconds. */
  readonly fetchDeadline: number;
  readonly fetch: FetchChoice;
  readonly dataPath: 'fuse' | 'nfs';
  /** For the data path over NFS. */
  readonly nfs: {
    readonly version: NfsVersion;
    readonly connections: number | undefined;
    readonly readSize: number | undefined;
  };
  readonly prefetch: boolean;
  readonly fill: (typeof FILL_CHOICES)[number];
  /** See ObjectFilesystemSettings. */
  readonly audit: number;
  /** Milliseconds. */
  readonly recordLongest: number;
  readonly recordIdle: number;
  readonly indexFormat: 'auto' | 'erofs' | 'directory' | 'tree';
  readonly node: string;
  readonly shutdown: boolean;
  readonly logLevel: (typeof LOG_LEVELS)[number];
}

/** Checks the options and fills in what follows from others. Throws invalid-argument naming the option. */
export function driverConfig(values: Values<typeof DRIVER_OPTIONS>): DriverConfig {
  const pluginName = values['plugin-name'];
  if (!/^[a-z0-9][a-z0-9_.-]*$/.test(pluginName)) {
    throw new GearError(
      'invalid-argument',
      `--plugin-name ${JSON.stringify(pluginName)}: lower-case letters, digits, '_', '.' and '-' only`,
    );
  }
  const root = absolute('root', values.root);
  const socket = absolute('socket', values.socket ?? join(PLUGIN_FOLDER, `${pluginName}.sock`));
  if (values.tcp !== undefined && values.socket !== undefined) {
    throw new GearError('invalid-argument', '--tcp and --socket exclude each other');
  }
  const tcp = values.tcp === undefined ? undefined : loopback(values.tcp);
  // Docker's plugin protocol has no credentials, and loopback is every user's.
  if (tcp !== undefined && !values.insecure) {
    throw new GearError(
      'invalid-argument',
      `--tcp ${values.tcp}: every user and host-network container of this node could mount and delete layers as root there; use --socket, or say --insecure`,
    );
  }
  const manager = address('manager', values.manager, values['manager-ip'], values['manager-port'], DEFAULT_MANAGER);
  const besideIt = formatHostPort({ host: parseHostPort(manager, '--manager').host, port: MONITOR_PORT });
  return {
    root,
    manager,
    monitor: address('monitor', values.monitor, values['monitor-ip'], values['monitor-port'], besideIt),
    access: accessOf(values),
    pluginName,
    listen:
      tcp === undefined
        ? { kind: 'unix', path: socket }
        : { kind: 'tcp', address: tcp, specFolder: absolute('spec-folder', values['spec-folder']) },
    containerdSocket:
      values['containerd-socket'] === '' ? '' : absolute('containerd-socket', values['containerd-socket']),
    cacheSize: parseSize('cache-size', values['cache-size']),
    fetchDeadline: values['fetch-deadline'] * 1000,
    fetch: values.fetch,
    dataPath: values['data-path'],
    nfs: {
      version: values['nfs-version'],
      connections: values['nfs-connections'],
      readSize: values['nfs-read-size'],
    },
    prefetch: values.prefetch === 'on',
    fill: values.fill,
    audit: values.audit,
    recordLongest: values['record-longest'] * 1000,
    recordIdle: values['record-idle'] * 1000,
    indexFormat: values['index-format'],
    node: values.node ?? hostname(),
    shutdown: values.shutdown,
    logLevel: values['log-level'],
  };
}

function absolute(option: string, path: string): string {
  if (!isAbsolute(path) || path.includes('\0')) {
    throw new GearError('invalid-argument', `--${option} takes an absolute path, not ${JSON.stringify(path)}`);
  }
  return path.length > 1 ? path.replace(/\/+$/, '') : path;
}

function address(
  name: string,
  whole: string | undefined,
  host: string | undefined,
  port: number | undefined,
  fallback: string,
): string {
  if (whole !== undefined && (host !== undefined || port !== undefined)) {
    throw new GearError('invalid-argument', `--${name} and --${name}-ip/--${name}-port exclude each other`);
  }
  if (whole !== undefined) return formatHostPort(parseHostPort(whole, `--${name}`));
  const standard = parseHostPort(fallback, name);
  return formatHostPort(
    parseHostPort(
      formatHostPort({ host: host ?? standard.host, port: port ?? standard.port }),
      `--${name}-ip/--${name}-port`,
    ),
  );
}

// Whoever reaches the plugin can mount and delete layers as root.
function loopback(text: string): string {
  const parsed = parseHostPort(text, '--tcp');
  if (!isLoopback(parsed.host)) {
    throw new GearError(
      'invalid-argument',
      `--tcp ${text}: only a loopback address, for whoever reaches the plugin is root on this node`,
    );
  }
  return formatHostPort(parsed);
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

function parseSize(option: string, text: string): number | undefined {
  if (text === '') return undefined;
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text);
  const unit = UNITS[match?.[2]?.toUpperCase() ?? ''];
  if (match === null || unit === undefined) {
    throw new GearError(
      'invalid-argument',
      `--${option} takes a size such as 500M or 20G, not ${JSON.stringify(text)}`,
    );
  }
  return Math.round(Number(match[1]) * unit);
}
