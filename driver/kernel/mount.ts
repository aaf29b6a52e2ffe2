import { rm } from 'node:fs/promises';
import { GearError, isErrno } from '#core/errors.ts';
import { MS, parseMountOptions } from './mount-flags.ts';
import { mountsBelow } from './mount-info.ts';
import { cString, type Path, systemCall } from './syscall.ts';

const mountCall = systemCall('mount', ['const void *', 'const void *', 'const void *', 'ulong', 'const void *']);
const umount2 = systemCall('umount2', ['const void *', 'int']);

/** MNT_* and UMOUNT_NOFOLLOW of linux/fs.h. */
const UNMOUNT = { force: 1, detach: 2, noFollow: 8 } as const;
/** mount(2) copies one page of options (copy_mount_options of fs/namespace.c). */
export const MOUNT_DATA_MAX = 4095;

/** A mount as data: what mount(8) would be told. `options` are words of mount(8) and of the filesystem. */
export interface Mount {
  readonly type: string;
  readonly source: string;
  readonly target: Path;
  readonly options: readonly string[];
}

async function call(mount: Omit<Mount, 'options'>, flags: number, data?: string): Promise<void> {
  const { type, source, target } = mount;
  await mountCall.async(
    { path: source, dest: target },
    cString(source, 'mount'),
    cString(target, 'mount'),
    cString(type, 'mount'),
    flags,
    data === undefined || data === '' ? null : cString(data, 'mount'),
  );
}

/**
 * Performs a mount with mount(2). A read-only (or nosuid, ...) bind mount takes two calls, which are both made here. Throws as fs does; the
 * mount is undone when a later call fails.
 */
export async function mount(record: Mount): Promise<void> {
  const { flags, propagation, data } = parseMountOptions(record.options);
  const text = data.join(',');
  if (Buffer.byteLength(text) > MOUNT_DATA_MAX) {
    throw new GearError(
      'invalid-argument',
      `the options of the ${record.type} mount at ${record.target.toString()} have ${Buffer.byteLength(text)} bytes; mount(2) takes ${MOUNT_DATA_MAX}`,
    );
  }
  await call(record, flags, text);
  try {
    const restrictions = flags & ~(MS.BIND | MS.REC | MS.REMOUNT);
    // The kernel ignores every other flag while it makes a bind mount.
    if ((flags & MS.BIND) !== 0 && (flags & MS.REMOUNT) === 0 && restrictions !== 0)
      await call(record, restrictions | MS.BIND | MS.REMOUNT);
    for (const change of propagation) await call({ type: '', source: '', target: record.target }, change);
  } catch (error) {
    if ((flags & MS.REMOUNT) === 0) await unmount(record.target, { detach: true });
    throw error;
  }
}

/** Shows the folder or file `source` also at `target`. */
export async function bindMount(
  source: string,
  target: Path,
  { readOnly = false, recursive = false }: { readOnly?: boolean; recursive?: boolean } = {},
): Promise<void> {
  const options = [recursive ? 'rbind' : 'bind', ...(readOnly ? ['ro'] : [])];
  await mount({ type: 'none', source, target, options });
}

/** Makes the mount at `target` (this mount only, not the filesystem behind it) read-only. */
export async function remountReadOnly(target: Path): Promise<void> {
  await call({ type: 'none', source: 'none', target }, MS.REMOUNT | MS.BIND | MS.RDONLY);
}

/**
 * Unmounts the topmost mount at `target`, never through a symlink. `detach`: out of sight at once, gone when the last user is; `force`: also where
 * the server is dead. Throws EBUSY while it is used (without detach), EINVAL where nothing is mounted.
 */
export async function unmount(
  target: Path,
  { detach = false, force = false }: { detach?: boolean; force?: boolean } = {},
): Promise<void> {
  const flags = UNMOUNT.noFollow | (detach ? UNMOUNT.detach : 0) | (force ? UNMOUNT.force : 0);
  await umount2.async({ path: target }, cString(target, 'umount'), flags);
}

/** Unmounts whatever is mounted at or below `path` (absolute), the latest first. Gives how many there were. */
export async function unmountTree(path: Path, options: { detach?: boolean; force?: boolean } = {}): Promise<number> {
  const mounts = mountsBelow(path);
  for (const mount of mounts.toReversed()) {
    try {
      await unmount(Buffer.from(mount.target, 'latin1'), options);
    } catch (error) {
      // Somebody else was faster.
      if (!isErrno(error, 'EINVAL', 'ENOENT') || mountsBelow(path).some(({ id }) => id === mount.id)) throw error;
    }
  }
  return mounts.length;
}

/**
 * Deletes a folder and all in it. Refuses (failed-precondition) while something is mounted at or below it, because
 * deleting would then go on in the mounted filesystem. Nothing there is no error.
 */
export async function removeFolder(path: string): Promise<void> {
  const mounts = mountsBelow(path);
  if (mounts.length > 0) {
    const targets = mounts.map((mount) => Buffer.from(mount.target, 'latin1').toString()).join(', ');
    throw new GearError('failed-precondition', `${path} is not deleted: still mounted: ${targets}`);
  }
  await rm(path, { recursive: true, force: true });
}
