import { ENTRY_BYTES, type Entry, putEntry } from './reply.ts';

/** One name in a directory. */
export interface DirectoryEntry {
  /** One character a byte. */
  readonly name: string;
  readonly entry: Entry;
  /** Where reading goes on behind this name: never 0. */
  readonly next: number;
}

const DIRENT_BYTES = 24;

/**
 * Packs as many names as fit into `size` bytes. struct fuse_dirent: u64 ino, off; u32 namelen, type (DT_*); the name, padded to 8 bytes; with `plus` a
 * fuse_entry_out in front of each ("." and ".." have node id 0 there: the kernel knows them).
 */
export function directoryBody(entries: Iterable<DirectoryEntry>, size: number, plus: boolean): Buffer {
  const body = Buffer.alloc(size);
  const view = new DataView(body.buffer, body.byteOffset, size);
  let at = 0;
  for (const { name, entry, next } of entries) {
    const front = plus ? ENTRY_BYTES : 0;
    const length = front + ((DIRENT_BYTES + name.length + 7) & ~7);
    if (at + length > size) break;
    if (plus && name !== '.' && name !== '..') putEntry(view, at, entry);
    const start = at + front;
    const { node, mode } = entry.attributes;
    view.setUint32(start, node.low, true);
    view.setUint32(start + 4, node.high, true);
    view.setUint32(start + 8, next % 2 ** 32, true);
    view.setUint32(start + 12, Math.floor(next / 2 ** 32), true);
    view.setUint32(start + 16, name.length, true);
    view.setUint32(start + 20, (mode & 0o170000) >>> 12, true);
    body.write(name, start + DIRENT_BYTES, 'latin1');
    at += length;
  }
  return body.subarray(0, at);
}
