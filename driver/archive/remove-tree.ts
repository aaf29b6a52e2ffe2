import { rmdirSync, unlinkSync } from 'node:fs';
import { isErrno } from '#core/errors.ts';
import type { ByteString } from '#core/index/tree.ts';
import { isDirectory, namesIn, statusOfPath, toPath } from './file-status.ts';
import { Pacer } from './pacer.ts';

/**
 * Removes `path` and all below it, never through a symlink; nothing there is no error. A mount point below makes it fail (EBUSY) before anything in the
 * mounted filesystem is touched.
 */
export async function removeTree(path: ByteString, pacer: Pacer = new Pacer()): Promise<void> {
  const status = statusOfPath(toPath(path));
  if (status === undefined) return;
  if (!isDirectory(status)) {
    unlinkSync(toPath(path));
    return;
  }
  await removeDirectory(path, deviceNumberOf(status.inode), pacer);
}

function deviceNumberOf(inode: string): string {
  return inode.slice(0, inode.indexOf(':'));
}

async function removeDirectory(path: ByteString, device: string, pacer: Pacer): Promise<void> {
  for (const name of namesIn(toPath(path))) {
    if (pacer.due) await pacer.rest();
    const child = `${path}/${name}`;
    const status = statusOfPath(toPath(child));
    if (status === undefined) continue;
    if (!isDirectory(status)) unlinkSync(toPath(child));
    else if (deviceNumberOf(status.inode) === device) await removeDirectory(child, device, pacer);
    else rmdirSync(toPath(child));
  }
  try {
    rmdirSync(toPath(path));
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
