import { closeSync, openSync } from 'node:fs';
import { libc } from './libc.ts';

/** linux/fs.h: FS_TOPDIR_FL, "top of directory hierarchies" (chattr +T). */
const TOP_OF_HIERARCHIES = 0x00020000;

/**
 * Tells ext4 to put each folder that is made in `folder` into a group of inodes of its own, apart from the others. ext4 does not use an inode again for a
 * minute or more after its file was removed, and passes them one by one when it looks for another: beside what was removed lately, a new file takes up to two
 * milliseconds instead of twenty microseconds. Filesystems without such groups refuse the flag, which is fine.
 */
export function spreadFoldersIn(folder: string): void {
  const descriptor = openSync(folder, 'r');
  try {
    libc?.addFlags(descriptor, TOP_OF_HIERARCHIES);
  } finally {
    closeSync(descriptor);
  }
}
