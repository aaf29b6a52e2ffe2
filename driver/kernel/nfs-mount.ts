import { isIP } from 'node:net';
import { isAbsolute } from 'node:path';
import { GearError } from '#core/errors.ts';
import type { HostPort } from '#core/grpc/address.ts';
import { type LimitedOptions, runLimited } from './limited.ts';
import { findMount, type MountInfo } from './mount-info.ts';

export const NFS_VERSIONS = ['4.0', '4.1', '4.2'] as const;
export type NfsVersion = (typeof NFS_VERSIONS)[number];

/** What of a server is mounted, and how. */
export interface NfsMount {
  /** An address, not a name: the kernel asks no resolver. */
  readonly server: HostPort;
  /** From the server's root on. */
  readonly path: string;
  readonly version: NfsVersion;
  /** TCP connections; 1 to 16. */
  readonly connections?: number | undefined;
  /** Bytes of one read; the server may want fewer. */
  readonly readSize?: number | undefined;
}

/** Of mount(8): nothing on it is run, obeyed or written. Overlay shows its files with rights of their own. */
const RESTRICTIONS = ['ro', 'nosuid', 'nodev', 'noexec'] as const;

// nfs(5). hard: a read never gives up by itself, so that no reader gets an error for a short outage; we end those that wait too long. Objects never
// change, so nothing is checked again when a file is opened; but new ones appear, so that a name which was not there is always asked for.
const FIXED = [
  'proto=tcp',
  'sec=sys',
  'hard',
  'timeo=50',
  'retrans=2',
  'noresvport',
  'nocto',
  'lookupcache=pos',
] as const;
const KEEP = ['acregmin=600', 'acregmax=3600', 'acdirmin=30', 'acdirmax=60'] as const;

function refuse(message: string): never {
  throw new GearError('invalid-argument', `NFS mount: ${message}`);
}

function checkNumber(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most)
    refuse(`${name} has to be from ${least} to ${most}, not ${value}`);
}

/** What mount(8) is told. Throws invalid-argument for what would end one option and begin another, and for what no server has. */
export function nfsMountOptions({ server, path, version, connections, readSize }: NfsMount): string[] {
  if (isIP(server.host) === 0 || /[%,\s]/.test(server.host)) refuse(`${JSON.stringify(server.host)} is not an address`);
  checkNumber('the port', server.port, 1, 65_535);
  if (!/^\/[^\s,\0\\]*$/.test(path) || path.split('/').includes('..')) {
    refuse(`${JSON.stringify(path)} is not an absolute path without commas, spaces, backslashes and ".."`);
  }
  if (!NFS_VERSIONS.includes(version)) refuse(`there is no version ${JSON.stringify(version)}`);
  if (connections !== undefined) checkNumber('nconnect', connections, 1, 16);
  if (readSize !== undefined) checkNumber('rsize', readSize, 4096, 1024 * 1024);
  return [
    ...RESTRICTIONS,
    `vers=${version}`,
    `addr=${server.host}`,
    `port=${server.port}`,
    ...FIXED,
    ...KEEP,
    ...(connections === undefined ? [] : [`nconnect=${connections}`]),
    ...(readSize === undefined ? [] : [`rsize=${readSize}`]),
  ];
}

/**
 * Mounts an export at `target` (an existing folder), in a process of its own that is killed at the deadline. No mount helper is needed. Throws
 * deadline-exceeded, failed-precondition with what mount(8) said.
 */
export async function mountNfs(target: string, mount: NfsMount, options: LimitedOptions): Promise<void> {
  if (!isAbsolute(target)) refuse(`${JSON.stringify(target)} is not an absolute path`);
  const words = nfsMountOptions(mount);
  const { host } = mount.server;
  const source = `${isIP(host) === 6 ? `[${host}]` : host}:${mount.path}`;
  await runLimited('mount', ['-i', '-t', 'nfs4', '-o', words.join(','), source, target], options);
}

/** The NFS mount at `target`; undefined where there is none, or something else. */
export function findNfsMount(target: string): MountInfo | undefined {
  const found = findMount(target);
  return found !== undefined && /^nfs4?$/.test(found.type) ? found : undefined;
}

/** Takes every mount at `target` out of sight; what still uses it goes on. Asks no server. Nothing there is no error. */
export async function detachNfs(target: string, options: LimitedOptions): Promise<void> {
  while (findMount(target) !== undefined) await runLimited('umount', ['-i', '-l', '--', target], options);
}

/**
 * Ends the reads that wait for the server, of whoever uses this mount's filesystem: they fail with EIO. The mount stays as long as a
 * descriptor of its folder is open.
 */
export async function endNfsRequests(target: string, options: LimitedOptions): Promise<void> {
  try {
    await runLimited('umount', ['-i', '-f', '--', target], options);
  } catch (error) {
    // It is busy, which is what keeps it.
    if (!(error instanceof GearError) || !/busy/.test(String(error.fields['said'] ?? ''))) throw error;
  }
}

/**
 * The first `size` bytes of a file on a mount whose server may be dead, read by a process of its own. "direct": from the server; "cached": as programs
 * read, after what was cached has been dropped. Throws deadline-exceeded, failed-precondition with what dd(1) said.
 */
export async function readBack(
  file: string,
  size: number,
  how: 'direct' | 'cached',
  options: LimitedOptions,
): Promise<Buffer> {
  // Directly in several requests, cached in one: clients treat them differently.
  const block = how === 'direct' ? 32 * 1024 : 256 * 1024;
  const input = [`if=${file}`, `bs=${block}`, `count=${Math.ceil(size / block)}`, 'status=none'];
  if (how === 'direct') return await runLimited('dd', [...input, 'iflag=direct,fullblock'], options);
  await runLimited('dd', [`if=${file}`, 'of=/dev/null', 'iflag=nocache', 'count=0', 'status=none'], options);
  return await runLimited('dd', input, options);
}
