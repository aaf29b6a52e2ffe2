import { cString, errnoNumber, type Path, systemCall, systemError } from './syscall.ts';

// mode_t is 32 bits, dev_t 64 bits in libc's calls.
const mknodCall = systemCall('mknod', ['const void *', 'uint32', 'uint64']);
const utimensat = systemCall('utimensat', ['int', 'const void *', 'const void *', 'int']);
const syncfsCall = systemCall('syncfs', ['int']);

/** S_IFMT's values of linux/stat.h. */
const TYPES = { fifo: 0o010000, 'character-device': 0o020000, 'block-device': 0o060000, file: 0o100000 } as const;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;

/** A device number as st_rdev has it: 12 bits of major, 20 of minor (new_encode_dev of linux/kdev_t.h). Throws EINVAL out of range. */
export function deviceNumber(major: number, minor: number): number {
  if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff)
    throw systemError(errnoNumber('EINVAL'), `device number ${major}:${minor}`);
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** The major and minor of a st_rdev. */
export function splitDeviceNumber(device: number): { major: number; minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) };
}

/** Makes an inode; `mode` is cut by the process's umask, so chmod afterwards. Throws EEXIST, EPERM (user namespaces make no devices), ... */
export function mknod(path: Path, type: keyof typeof TYPES, mode: number, major = 0, minor = 0): void {
  mknodCall({ path }, cString(path, 'mknod'), TYPES[type] | (mode & 0o7777), deviceNumber(major, minor));
}

/** Makes a named pipe; see mknod. */
export function mkfifo(path: Path, mode: number): void {
  mknod(path, 'fifo', mode);
}

/**
 * Sets access and modification time of `path` itself (a symlink is not followed): seconds since 1970, negative before it, and
 * nanoseconds (0 to 999,999,999). Node's own utimes goes through a double and loses nanoseconds.
 */
export function setTimes(path: Path, seconds: number, nanoseconds: number): void {
  // struct timespec[2] of 64-bit Linux: two signed 64-bit numbers each, in the machine's order (little on all we run on).
  const times = Buffer.allocUnsafe(32);
  for (const offset of [0, 16]) {
    times.writeBigInt64LE(BigInt(seconds), offset);
    times.writeBigInt64LE(BigInt(nanoseconds), offset + 8);
  }
  utimensat({ path }, AT_FDCWD, cString(path, 'utimensat'), times, AT_SYMLINK_NOFOLLOW);
}

/** Flushes the whole filesystem that the open file `fd` lies on. */
export async function syncfs(fd: number): Promise<void> {
  await syncfsCall.async({}, fd);
}
