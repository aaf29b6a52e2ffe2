import { type BigIntStats, lstatSync, readdirSync } from 'node:fs';
import { isErrno } from '#core/errors.ts';
import type { ByteString } from '#core/index/tree.ts';
import { splitDeviceNumber } from '../kernel/inode.ts';

/** S_IFMT's values of linux/stat.h. */
export const FORMAT = {
  mask: 0o170000,
  fifo: 0o010000,
  characterDevice: 0o020000,
  directory: 0o040000,
  blockDevice: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const;

/** What lstat tells, times exact. */
export interface FileStatus {
  /** Type and permissions, as st_mode. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly size: number;
  /** Bytes that the file takes on disk. */
  readonly allocated: number;
  readonly device: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  /** Names the inode on this machine. */
  readonly inode: string;
}

const BILLION = 1_000_000_000n;

function statusOf(stats: BigIntStats): FileStatus {
  let seconds = stats.mtimeNs / BILLION;
  let nanoseconds = stats.mtimeNs % BILLION;
  if (nanoseconds < 0n) {
    seconds -= 1n;
    nanoseconds += BILLION;
  }
  return {
    mode: Number(stats.mode),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    links: Number(stats.nlink),
    size: Number(stats.size),
    allocated: Number(stats.blocks) * 512,
    device: Number(stats.rdev),
    mtimeSeconds: Number(seconds),
    mtimeNanoseconds: Number(nanoseconds),
    inode: `${stats.dev}:${stats.ino}`,
  };
}

/** The status of `path` itself (a symlink is not followed); undefined where there is nothing. */
export function statusOfPath(path: Buffer): FileStatus | undefined {
  try {
    const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    return stats === undefined ? undefined : statusOf(stats);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

export function hasFormat(status: FileStatus | undefined, format: number): boolean {
  return status !== undefined && (status.mode & FORMAT.mask) === format;
}

declare const directoryBrand: unique symbol;
/** The status of what was seen to be a directory. */
export type DirectoryStatus = FileStatus & { readonly [directoryBrand]: true };

export function isDirectory(status: FileStatus | undefined): status is DirectoryStatus {
  return hasFormat(status, FORMAT.directory);
}

/** Whether this is how overlayfs writes that a name is deleted: a character device 0:0. */
export function isWhiteout(status: FileStatus | undefined): boolean {
  return hasFormat(status, FORMAT.characterDevice) && status?.device === 0;
}

export function deviceOf(status: FileStatus): { major: number; minor: number } {
  return splitDeviceNumber(status.device);
}

/** The names in a folder, in ascending order of their bytes. */
export function namesIn(path: Buffer): ByteString[] {
  const names = readdirSync(path, { encoding: 'buffer' }).map((name) => name.toString('latin1'));
  return names.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}

/** A path of this machine (text) as raw bytes, without a slash at the end. */
export function bytesOfPath(path: string): ByteString {
  const bytes = Buffer.from(path).toString('latin1').replace(/\/+$/, '');
  return bytes;
}

/** Raw bytes as something that file system calls take. */
export function toPath(bytes: ByteString): Buffer {
  return Buffer.from(bytes === '' ? '/' : bytes, 'latin1');
}
