import { isErrno } from '#core/errors.ts';
import type { ByteString } from '#core/index/tree.ts';
import { cString, type Path, systemCall } from './syscall.ts';

// None of these follows a symlink in the last place.
const get = systemCall('lgetxattr', ['const void *', 'const void *', 'void *', 'size_t'], { result: 'long' });
const set = systemCall('lsetxattr', ['const void *', 'const void *', 'const void *', 'size_t', 'int']);
const list = systemCall('llistxattr', ['const void *', 'void *', 'size_t'], { result: 'long' });
const remove = systemCall('lremovexattr', ['const void *', 'const void *']);

/** XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h: no value and no list of names is larger. */
const MAX = 65_536;
// Calls on this thread never overlap, so one buffer does for all.
const scratch = Buffer.allocUnsafeSlow(MAX);

/** XATTR_CREATE and XATTR_REPLACE of linux/xattr.h. */
const SET_FLAGS = { create: 1, replace: 2 } as const;

function nameOf(name: ByteString, syscall: string): Buffer {
  return cString(Buffer.from(name, 'latin1'), syscall);
}

function split(names: Buffer): ByteString[] {
  return names.length === 0 ? [] : names.toString('latin1', 0, names.length - 1).split('\0');
}

/** The value of an xattr of `path` itself; undefined where there is none of that name (ENODATA). */
export function lgetxattr(path: Path, name: ByteString): Buffer | undefined {
  try {
    const size = get({ path }, cString(path, 'lgetxattr'), nameOf(name, 'lgetxattr'), scratch, MAX);
    return Buffer.from(scratch.subarray(0, size));
  } catch (error) {
    if (isErrno(error, 'ENODATA')) return undefined;
    throw error;
  }
}

/** Sets an xattr of `path` itself. Throws EEXIST or ENODATA where `only` forbids. */
export function lsetxattr(path: Path, name: ByteString, value: Uint8Array, only?: keyof typeof SET_FLAGS): void {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  const flags = only === undefined ? 0 : SET_FLAGS[only];
  set({ path }, cString(path, 'lsetxattr'), nameOf(name, 'lsetxattr'), bytes, bytes.length, flags);
}

/** The names of the xattrs of `path` itself, in the order that the filesystem gives; none where it has no xattrs at all (ENOTSUP). */
export function llistxattr(path: Path): ByteString[] {
  try {
    return split(scratch.subarray(0, list({ path }, cString(path, 'llistxattr'), scratch, MAX)));
  } catch (error) {
    if (isErrno(error, 'ENOTSUP')) return [];
    throw error;
  }
}

/** Removes an xattr of `path` itself. Throws ENODATA where there is none of that name. */
export function lremovexattr(path: Path, name: ByteString): void {
  remove({ path }, cString(path, 'lremovexattr'), nameOf(name, 'lremovexattr'));
}

/** All xattrs of `path` itself, names in order of their bytes. */
export function readXattrs(path: Path): Map<ByteString, Buffer> {
  const xattrs = new Map<ByteString, Buffer>();
  for (const name of llistxattr(path).sort((a, b) => (a < b ? -1 : 1))) {
    const value = lgetxattr(path, name);
    if (value !== undefined) xattrs.set(name, value);
  }
  return xattrs;
}
