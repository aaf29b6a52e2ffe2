import { readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isErrno } from '#core/errors.ts';
import type { Path } from './syscall.ts';

/** A line of /proc/self/mountinfo (proc(5)). Paths are raw bytes as latin1 strings: a mount point need not be UTF-8. */
export interface MountInfo {
  readonly id: number;
  readonly parentId: number;
  /** st_dev of what is mounted: "major:minor". */
  readonly device: string;
  /** What of that filesystem is mounted here. */
  readonly root: string;
  readonly target: string;
  /** Of this mount: "ro", "nosuid". */
  readonly options: readonly string[];
  readonly propagation: readonly string[];
  readonly type: string;
  readonly source: string;
  /** Of the filesystem: "lowerdir=/a". As the kernel shows them, with its own escapes. */
  readonly superOptions: readonly string[];
}

// The kernel writes space, tab, newline and backslash as three octal digits (mangle_path of fs/seq_file.c).
function undoOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** Parses the text of a mountinfo file, given as bytes; lines in the kernel's order: what was mounted later comes later. */
export function parseMountInfo(bytes: Buffer): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of bytes.toString('latin1').split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    if (dash < 0) continue;
    const [id, parentId, device, root, target, options] = fields;
    const [type, source, superOptions] = fields.slice(dash + 1);
    mounts.push({
      id: Number(id),
      parentId: Number(parentId),
      device: device ?? '',
      root: undoOctal(root ?? ''),
      target: undoOctal(target ?? ''),
      options: (options ?? '').split(','),
      propagation: fields.slice(6, dash),
      type: type ?? '',
      source: undoOctal(source ?? ''),
      // An escaped comma is `\,` in overlay's list; the kernel's octal escapes are undone only after splitting.
      superOptions: (superOptions ?? '').split(/(?<!\\134),/).map(undoOctal),
    });
  }
  return mounts;
}

/** The mounts of this process, in the kernel's order. */
export function readMounts(): MountInfo[] {
  return parseMountInfo(readFileSync('/proc/self/mountinfo'));
}

/**
 * A path as mountinfo has it. Links in the folders above are followed; the last name is not looked at, because it may be the mount point of a dead
 * server, and every look at that fails or hangs.
 */
function resolvePlace(path: Path): string {
  const text = (typeof path === 'string' ? Buffer.from(path) : path).toString('latin1').replace(/(?<=.)\/+$/, '');
  try {
    const folder = realpathSync.native(Buffer.from(dirname(text), 'latin1'), 'latin1');
    return join(folder, basename(text));
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return text;
    throw error;
  }
}

/** What is mounted exactly at `path` (absolute); the topmost where there are several. */
export function findMount(path: Path, mounts: readonly MountInfo[] = readMounts()): MountInfo | undefined {
  const target = resolvePlace(path);
  return mounts.findLast((mount) => mount.target === target);
}

/** What is mounted at or below `path` (absolute), in the kernel's order. */
export function mountsBelow(path: Path, mounts: readonly MountInfo[] = readMounts()): MountInfo[] {
  const target = resolvePlace(path);
  const prefix = target === '/' ? '/' : `${target}/`;
  return mounts.filter((mount) => mount.target === target || mount.target.startsWith(prefix));
}

/** The mount that `path` (absolute) lies on: the deepest mount point above it, the topmost there. */
export function mountOf(path: Path, mounts: readonly MountInfo[] = readMounts()): MountInfo | undefined {
  const target = resolvePlace(path);
  let best: MountInfo | undefined;
  for (const mount of mounts) {
    const prefix = mount.target === '/' ? '/' : `${mount.target}/`;
    const above = mount.target === target || target.startsWith(prefix);
    if (above && (best === undefined || mount.target.length >= best.target.length)) best = mount;
  }
  return best;
}

/** Whether an overlay that this process sees has the folder among its layers, under this very path. */
export function isOverlayLayer(path: string, mounts: readonly MountInfo[] = readMounts()): boolean {
  const layer = Buffer.from(path).toString('latin1');
  // "lowerdir=/a:/b::/data", or from kernel 6.8 on one option for each: "lowerdir+=/a", "datadir+=/data".
  const isIts = (option: string) =>
    /^(lowerdir|datadir)\+?=/.test(option) &&
    option
      .slice(option.indexOf('=') + 1)
      .split(':')
      .includes(layer);
  return mounts.some(({ type, superOptions }) => type === 'overlay' && superOptions.some(isIts));
}
