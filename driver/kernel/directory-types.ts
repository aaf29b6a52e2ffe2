import { closeSync, openSync } from 'node:fs';
import { type Path, rawSystemCall } from './syscall.ts';

// Of syscall_64.tbl and asm-generic/unistd.h.
const getdents64 = rawSystemCall('getdents64', { x64: 217, arm64: 61 }, ['int', 'void *', 'size_t']);

/** struct linux_dirent64: u64 inode, s64 offset, u16 length of the record, u8 type, the name. */
const LENGTH_OFFSET = 16;
const TYPE_OFFSET = 18;
const DT_UNKNOWN = 0;

/**
 * Whether the filesystem says the type of each name in a directory (d_type), which overlayfs needs below its upper directory. Node's readdir
 * hides it, as it asks for the inode where the type is missing. Looks at the first 32 KiB of the directory, which has "." at least.
 */
export function tellsTypes(directory: Path): boolean {
  const fd = openSync(directory, 'r');
  try {
    const buffer = Buffer.alloc(32_768);
    const size = getdents64({ path: directory }, fd, buffer, buffer.length);
    for (let at = 0; at < size; at += buffer.readUInt16LE(at + LENGTH_OFFSET)) {
      if (buffer.readUInt8(at + TYPE_OFFSET) === DT_UNKNOWN) return false;
    }
    return true;
  } finally {
    closeSync(fd);
  }
}
