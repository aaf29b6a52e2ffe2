import { isIP } from 'node:net';
import { GearError } from '#core/errors.ts';
import { formatHostPort, type HostPort, isLoopback, parseHostPort } from '#core/grpc/address.ts';

/** Versions of NFS that an export may offer. */
export const NFS_VERSIONS = ['4.0', '4.1', '4.2'] as const;
export type NfsVersion = (typeof NFS_VERSIONS)[number];

/** Who may read where nobody is named. */
const LOOPBACK = '127.0.0.0/8';

/** How the store's objects are exported. */
export interface ExportConfig {
  readonly kind: 'off' | 'ganesha' | 'kernel';
  readonly listen: HostPort;
  /** Networks as "ADDRESS/BITS". */
  readonly allow: readonly string[];
  readonly versions: readonly NfsVersion[];
}

/** A network as "ADDRESS/BITS"; a lone address is a network of one. Throws invalid-argument. */
export function parseNetwork(text: string, option: string): string {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  const most = family === 4 ? 32 : 128;
  const count = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN;
  if (family === 0 || address.includes('%') || rest.length > 0 || !(count <= most)) {
    throw new GearError('invalid-argument', `${option}: expected ADDRESS/BITS, got ${JSON.stringify(text)}`);
  }
  return `${address}/${count}`;
}

/** A comma-separated list, each part read by `parse`. Throws invalid-argument for an empty one. */
function list<T>(text: string, option: string, parse: (part: string) => T): T[] {
  const parts = text.split(',').map((part) => part.trim());
  if (parts.includes(''))
    throw new GearError('invalid-argument', `${option}: ${JSON.stringify(text)} has an empty part`);
  return [...new Set(parts.map(parse))];
}

function parseVersion(text: string): NfsVersion {
  const version = NFS_VERSIONS.find((known) => known === text);
  if (version !== undefined) return version;
  throw new GearError(
    'invalid-argument',
    `--nfs-versions: there is no ${JSON.stringify(text)}; known: ${NFS_VERSIONS.join(', ')}`,
  );
}

/** Checks the options of the export. Throws invalid-argument naming the option. */
export function exportConfig(options: {
  readonly kind: ExportConfig['kind'];
  readonly listen: string;
  /** Undefined: this machine only. */
  readonly allow: string | undefined;
  readonly versions: string;
  /** Whether everybody may be allowed. */
  readonly insecure?: boolean;
}): ExportConfig {
  const listen = parseHostPort(options.listen, '--nfs-listen');
  if (isIP(listen.host) === 0) {
    throw new GearError('invalid-argument', `--nfs-listen: an address is needed, not the name ${listen.host}`);
  }
  if (options.kind === 'kernel' && listen.port !== 2049) {
    throw new GearError(
      'invalid-argument',
      `--nfs-listen ${formatHostPort(listen)}: the kernel's server listens on port 2049, on all addresses; give --nfs-listen 0.0.0.0:2049`,
    );
  }
  if (options.kind !== 'off' && options.allow === undefined && !isLoopback(listen.host)) {
    throw new GearError(
      'invalid-argument',
      `--nfs-listen ${formatHostPort(listen)} is reachable from other machines: say with --nfs-allow who may read, or listen at 127.0.0.1:${listen.port}`,
    );
  }
  const allow = list(options.allow ?? LOOPBACK, '--nfs-allow', (part) => parseNetwork(part, '--nfs-allow'));
  const everybody = allow.find((network) => network.endsWith('/0'));
  if (options.kind !== 'off' && everybody !== undefined && options.insecure !== true) {
    throw new GearError('invalid-argument', `--nfs-allow ${everybody} is everybody: name networks, or say --insecure`);
  }
  return {
    kind: options.kind,
    listen,
    allow,
    versions: list(options.versions, '--nfs-versions', parseVersion),
  };
}
