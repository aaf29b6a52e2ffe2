import { lstat, readdir } from 'node:fs/promises';
import { isErrno } from '#core/errors.ts';
import { METACOPY, REDIRECT } from './index-xattrs.ts';
import { llistxattr, lremovexattr } from './xattr.ts';

/** What a folder takes on its disk: blocks, each inode counted once, as du counts. */
export interface Measure {
  /** Bytes. */
  readonly size: number;
  readonly inodes: number;
}

export interface MeasureOptions {
  /**
   * Takes away the xattrs by which overlayfs would look for a file's contents or a directory elsewhere: in a layer that was unpacked from a tar only
   * whoever made the tar can have put them there.
   */
  readonly dropOrders?: boolean;
}

const BLOCK = 512;

/** Measures a folder with all in it, itself included; not what is mounted in it. What disappears meanwhile is not counted. */
export async function measure(root: string, { dropOrders = false }: MeasureOptions = {}): Promise<Measure> {
  const seen = new Set<string>();
  let size = 0;
  let device: number | undefined;
  const visit = async (path: Buffer): Promise<void> => {
    const stats = await lstat(path);
    device ??= stats.dev;
    if (stats.dev !== device) return;
    const inode = `${stats.dev}:${stats.ino}`;
    if (seen.has(inode)) return;
    seen.add(inode);
    size += stats.blocks * BLOCK;
    if (dropOrders && (stats.isDirectory() || stats.isFile())) dropOrdersOf(path);
    if (!stats.isDirectory()) return;
    for (const name of await readdir(path, { encoding: 'buffer' })) {
      await unlessGone(visit(Buffer.concat([path, SLASH, name])));
    }
  };
  await unlessGone(visit(Buffer.from(root)));
  return { size, inodes: seen.size };
}

const SLASH = Buffer.from('/');

function dropOrdersOf(path: Buffer): void {
  for (const name of llistxattr(path)) if (name === REDIRECT || name === METACOPY) lremovexattr(path, name);
}

async function unlessGone(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
