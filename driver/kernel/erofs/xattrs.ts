import { XATTR_ALIGNMENT, XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE } from './format.ts';
import type { ErofsXattr } from './inode.ts';
import { type Output, roundUp } from './output.ts';

/** Bytes between an inode and what follows it: a header and the xattrs; 0 without any. At most MAX_XATTR_BODY fit. */
export function xattrBodySize(xattrs: readonly ErofsXattr[]): number {
  if (xattrs.length === 0) return 0;
  let size = XATTR_HEADER_SIZE;
  for (const { name, value } of xattrs) size += roundUp(XATTR_ENTRY_SIZE + name.length + value.length, XATTR_ALIGNMENT);
  return size;
}

/** Emits as many bytes as xattrBodySize says. */
export function emitXattrs(out: Output, xattrs: readonly ErofsXattr[]): void {
  if (xattrs.length === 0) return;
  out.zeros(XATTR_HEADER_SIZE);
  for (const { index, name, value } of xattrs) {
    out.u8(name.length);
    out.u8(index);
    out.u16(value.length);
    out.text(name);
    if (typeof value === 'string') out.text(value);
    else out.bytes(value);
    const size = XATTR_ENTRY_SIZE + name.length + value.length;
    out.zeros(roundUp(size, XATTR_ALIGNMENT) - size);
  }
}
