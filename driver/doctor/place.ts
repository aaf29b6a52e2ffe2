import { stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { formatBytes } from '#core/cli/table.ts';
import { orUndefined } from '#core/errors.ts';
import { backingFilesystem } from '../docker/backing-filesystem.ts';
import { type Check, check } from './check.ts';

/** What is known of the filesystem that the root lies on, or will lie on. */
export interface Place {
  readonly root: string;
  /** The root itself, or the deepest folder above it that exists. */
  readonly existing: string;
  /** "ext4". */
  readonly filesystem: string;
  /** Whether it may hold overlayfs's upper directories. */
  readonly overlayUpper: boolean;
  readonly freeBytes: number;
  /** Undefined where the filesystem makes inodes as they are needed. */
  readonly freeInodes: number | undefined;
}

/** Looks at the filesystem of `root`, which need not exist yet. */
export async function lookAtPlace(root: string): Promise<Place> {
  let existing = root;
  while ((await orUndefined(stat(existing), 'ENOENT', 'ENOTDIR')) === undefined) existing = dirname(existing);
  const { name, overlayUpper } = await backingFilesystem(existing);
  const { bavail, bsize, files, ffree } = await statfs(existing);
  return {
    root,
    existing,
    filesystem: name,
    overlayUpper,
    freeBytes: bavail * bsize,
    freeInodes: files === 0 ? undefined : ffree,
  };
}

const GB = 1e9;

/** The checks of the root's filesystem that need no trying. */
export function placeChecks({ root, existing, filesystem, overlayUpper, freeBytes, freeInodes }: Place): Check[] {
  const where = existing === root ? root : `${existing}, where ${root} will be`;
  const space = freeBytes < GB ? 'missing' : freeBytes < 10 * GB ? 'warning' : 'ok';
  const inodes =
    freeInodes === undefined ? 'ok' : freeInodes < 10_000 ? 'missing' : freeInodes < 200_000 ? 'warning' : 'ok';
  return [
    check('root.filesystem', 'root filesystem', overlayUpper ? 'ok' : 'missing', `${filesystem} at ${where}`, {
      cost: "overlayfs cannot keep containers' changes there",
      remedy: 'put --root (and dockerd --data-root) on ext4, xfs or btrfs',
    }),
    check('root.space', 'free disk space', space, formatBytes(freeBytes), {
      cost: 'the cache evicts what is needed again, or reads fail with EIO when nothing is left',
      remedy: 'free some, put --root on a larger filesystem, or limit the cache (gear driver --cache-size)',
    }),
    check('root.inodes', 'free inodes', inodes, freeInodes === undefined ? 'made as needed' : String(freeInodes), {
      cost: 'an object takes one inode; without any, nothing can be cached',
      remedy: 'delete files, or make the filesystem with more inodes (mkfs.ext4 -N)',
    }),
  ];
}
