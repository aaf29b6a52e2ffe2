import { chmodSync, lchownSync } from 'node:fs';
import { isErrno } from '#core/errors.ts';
import type { ByteString, Metadata } from '#core/index/tree.ts';
import type { Logger } from '#core/log.ts';
import { setTimes } from '../kernel/inode.ts';
import { llistxattr, lremovexattr, lsetxattr, readXattrs } from '../kernel/xattr.ts';
import { type FileStatus, FORMAT, hasFormat } from './file-status.ts';

/** Overlayfs's own orders: a layer must neither give any nor show them. */
const OVERLAY = /^(?:trusted|user)\.overlay\./;

/** Whether an xattr is one that overlayfs obeys. */
export function isOverlayXattr(name: ByteString): boolean {
  return OVERLAY.test(name);
}

export interface SetMetadataOptions {
  readonly symlink?: boolean;
  /** Remove the xattrs that `metadata` does not have (but for overlayfs's and SELinux's). */
  readonly replaceXattrs?: boolean;
  readonly times?: boolean;
  readonly log?: Logger | undefined;
}

/**
 * Gives `path` itself an owner, xattrs, a mode and times, in this order: chown clears setuid and `security.capability`, and setting xattrs or the mode
 * may change the times. Overlayfs's xattrs are left out. Xattrs that the filesystem or the type of inode does not take are skipped and logged, as Docker does.
 */
export function setMetadata(
  path: Buffer,
  metadata: Metadata,
  { symlink = false, replaceXattrs = false, times = true, log }: SetMetadataOptions = {},
): void {
  lchownSync(path, metadata.uid, metadata.gid);
  if (replaceXattrs) removeOtherXattrs(path, metadata.xattrs);
  for (const [name, value] of metadata.xattrs) {
    if (!isOverlayXattr(name)) setXattr(path, name, value, log);
  }
  if (!symlink) chmodSync(path, metadata.mode & 0o7777);
  if (times) setTimes(path, metadata.mtimeSeconds, metadata.mtimeNanoseconds);
}

function setXattr(path: Buffer, name: ByteString, value: Buffer, log: Logger | undefined): void {
  try {
    lsetxattr(path, name, value);
  } catch (err) {
    if (!isErrno(err, 'ENOTSUP', 'EPERM')) throw err;
    log?.debug({ err, path: path.toString(), xattr: name }, 'xattr left out: not supported here');
  }
}

function removeOtherXattrs(path: Buffer, keep: ReadonlyMap<ByteString, Buffer>): void {
  for (const name of llistxattr(path)) {
    if (keep.has(name) || isOverlayXattr(name) || name === 'security.selinux') continue;
    try {
      lremovexattr(path, name);
    } catch (error) {
      if (!isErrno(error, 'ENODATA', 'ENOTSUP', 'EPERM')) throw error;
    }
  }
}

/** The metadata of what `status` describes, overlayfs's xattrs left out. */
export function metadataOf(path: Buffer, status: FileStatus): Metadata {
  const xattrs = readXattrs(path);
  for (const name of xattrs.keys()) if (isOverlayXattr(name)) xattrs.delete(name);
  return {
    mode: status.mode & 0o7777,
    uid: status.uid,
    gid: status.gid,
    mtimeSeconds: status.mtimeSeconds,
    mtimeNanoseconds: status.mtimeNanoseconds,
    xattrs,
  };
}

/** Gives `target` the metadata that `source` has. */
export function copyMetadata(
  source: Buffer,
  target: Buffer,
  status: FileStatus,
  options: SetMetadataOptions = {},
): void {
  setMetadata(target, metadataOf(source, status), { ...options, symlink: hasFormat(status, FORMAT.symlink) });
}
