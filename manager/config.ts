import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import type { Option, Values } from '#core/cli/command.ts';
import { parseHostPort } from '#core/grpc/address.ts';
import { LOG_LEVELS } from '#core/log.ts';
import { type ExportConfig, exportConfig } from './export/options.ts';
import { WATCH_OPTIONS, type WatchConfig, watchConfig } from './monitor/watch-options.ts';
import type { RegistryAccess } from './registry/access.ts';
import { checkListeners, SECURITY_OPTIONS, type SecurityConfig, securityConfig } from './security/options.ts';

/** The options of `gear manager`. */
export const MANAGER_OPTIONS = {
  root: { type: 'string', value: 'FOLDER', default: '/var/lib/gear-manager', help: 'Where the store lies' },
  listen: { type: 'string', value: 'HOST:PORT', default: '127.0.0.1:2019', help: 'Where gRPC is served; port 0: any' },
  'monitor-listen': {
    type: 'string',
    value: 'HOST:PORT',
    default: '127.0.0.1:2021',
    help: 'Where nodes report to the monitor (gRPC)',
  },
  'http-listen': {
    type: 'string',
    value: 'HOST:PORT',
    default: '127.0.0.1:2020',
    help: 'Where health, metrics, the registry endpoint and POST /notifications are served',
  },
  ...SECURITY_OPTIONS,
  nfs: {
    type: 'choice',
    choices: ['off', 'ganesha', 'kernel'],
    default: 'off',
    help: "Also export the objects over NFS, read-only: by nfs-ganesha, or by this machine's kernel",
  },
  'nfs-listen': {
    type: 'string',
    value: 'ADDRESS:PORT',
    default: '0.0.0.0:2049',
    help: 'Where NFS is served; port 0: any (ganesha only)',
  },
  'nfs-allow': {
    type: 'string',
    value: 'NETWORK,...',
    help: 'Who may read over NFS: addresses and networks as 10.0.0.0/8; needed where --nfs-listen is beyond loopback',
  },
  'nfs-versions': {
    type: 'string',
    value: 'VERSION,...',
    default: '4.0,4.1',
    help: 'Versions of NFS that are offered. Not 4.2: some clients then read zeros from some servers',
  },
  authfile: { type: 'string', value: 'FILE', help: 'Registry credentials, as docker login writes them' },
  'insecure-registry': {
    type: 'list',
    value: 'HOST[:PORT]',
    help: 'A registry that speaks http, or https with an unknown certificate; may be repeated',
  },
  'docker-host': { type: 'string', value: 'ADDRESS', help: 'The daemon of docker-daemon: images, as in DOCKER_HOST' },
  ...WATCH_OPTIONS,
  'max-conversions': {
    type: 'number',
    value: 'N',
    default: Math.max(2, Math.floor(availableParallelism() / 2)),
    defaultText: 'half of the processors, at least 2',
    min: 1,
    max: 64,
    help: 'Conversions at the same time; others wait',
  },
  grace: {
    type: 'number',
    value: 'SECONDS',
    default: 3600,
    min: 1,
    max: 30 * 86_400,
    help: 'How long what a client uploads or finds is kept for the image that it has yet to register',
  },
  'stop-timeout': {
    type: 'number',
    value: 'SECONDS',
    default: 10,
    max: 3600,
    help: 'How long calls under way may go on once the manager is told to stop',
  },
  rebuild: { type: 'flag', help: 'Make the catalogue again from the store, then serve' },
  verify: {
    type: 'flag',
    help: 'Read every object and index, remove what is damaged, say what it belonged to, and exit',
  },
  'log-level': { type: 'choice', choices: LOG_LEVELS, default: 'info', help: 'What is logged' },
} as const satisfies Readonly<Record<string, Option>>;

/** What a manager needs to know. */
export interface ManagerConfig {
  readonly root: string;
  /** "HOST:PORT", port 0 for any. */
  readonly listen: string;
  readonly monitorListen: string;
  readonly httpListen: string;
  /** Left out: everybody who reaches the addresses is let in. */
  readonly security?: SecurityConfig;
  readonly access: RegistryAccess;
  /** Undefined: nothing is watched, and there is no registry endpoint. */
  readonly watch?: WatchConfig;
  readonly maxConversions: number;
  /** Milliseconds; see store/leases.ts. */
  readonly grace: number;
  /** Milliseconds. */
  readonly stopTimeout: number;
  readonly rebuild: boolean;
  /** Undefined: nothing is exported. */
  readonly nfs?: ExportConfig;
}

/** The configuration that the options say. Throws invalid-argument. */
export function managerConfig(values: Values<typeof MANAGER_OPTIONS>): ManagerConfig {
  const listeners = {
    listen: values.listen,
    'monitor-listen': values['monitor-listen'],
    'http-listen': values['http-listen'],
  };
  for (const [option, address] of Object.entries(listeners)) parseHostPort(address, `--${option}`);
  const security = securityConfig(values);
  checkListeners(listeners, security, values.insecure);
  return {
    root: resolve(values.root),
    listen: values.listen,
    monitorListen: values['monitor-listen'],
    httpListen: values['http-listen'],
    security,
    access: {
      authFile: values.authfile,
      insecureRegistries: values['insecure-registry'],
      dockerHost: values['docker-host'],
    },
    watch: watchConfig(values),
    maxConversions: values['max-conversions'],
    grace: values.grace * 1000,
    stopTimeout: values['stop-timeout'] * 1000,
    rebuild: values.rebuild,
    nfs: exportConfig({
      kind: values.nfs,
      listen: values['nfs-listen'],
      allow: values['nfs-allow'],
      versions: values['nfs-versions'],
      insecure: values.insecure,
    }),
  };
}
