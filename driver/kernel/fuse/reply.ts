import type { NodeId, Uint64 } from './request.ts';

/** struct fuse_out_header: u32 len, s32 error (negative errno), u64 unique. */
export const OUT_HEADER_BYTES = 16;
export const ATTRIBUTE_BYTES = 88;
export const ENTRY_BYTES = 40 + ATTRIBUTE_BYTES;

/** What stat(2) shows of an inode. Times in seconds since 1970. */
export interface Attributes {
  readonly node: NodeId;
  /** What st_ino shows; left out: the node's id. */
  readonly inode?: Uint64;
  readonly size: number;
  /** Type and permission bits. */
  readonly mode: number;
  readonly links: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly device?: number;
  readonly mtimeSeconds?: number;
  readonly mtimeNanoseconds?: number;
}

/** The answer to LOOKUP: an inode, and for how many seconds the kernel may believe its name and its attributes. */
export interface Entry {
  readonly attributes: Attributes;
  readonly nameSeconds: number;
  readonly attributeSeconds: number;
}

export interface Statistics {
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly availableBlocks: number;
  readonly files: number;
  readonly freeFiles: number;
  /** Bytes. */
  readonly blockSize: number;
}

const BLOCK = 4096;

function putUint64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % 2 ** 32, true);
  view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
}

function putHalves(view: DataView, offset: number, { high, low }: Uint64): void {
  view.setUint32(offset, low, true);
  view.setUint32(offset + 4, high, true);
}

/** struct fuse_attr at `at`: u64 ino, size, blocks, atime, mtime, ctime; u32 nanoseconds of the three, mode, nlink, uid, gid, rdev, blksize, flags. */
function putAttributes(view: DataView, at: number, attributes: Attributes): void {
  const seconds = BigInt(attributes.mtimeSeconds ?? 0);
  const nanoseconds = attributes.mtimeNanoseconds ?? 0;
  putHalves(view, at, attributes.inode ?? attributes.node);
  putUint64(view, at + 8, attributes.size);
  putUint64(view, at + 16, Math.ceil(attributes.size / 512));
  for (let i = 0; i < 3; i++) {
    if (seconds !== 0n) view.setBigInt64(at + 24 + i * 8, seconds, true);
    view.setUint32(at + 48 + i * 4, nanoseconds, true);
  }
  view.setUint32(at + 60, attributes.mode, true);
  view.setUint32(at + 64, attributes.links, true);
  view.setUint32(at + 68, attributes.uid ?? 0, true);
  view.setUint32(at + 72, attributes.gid ?? 0, true);
  view.setUint32(at + 76, attributes.device ?? 0, true);
  view.setUint32(at + 80, BLOCK, true);
}

/** struct fuse_entry_out at `at`: u64 nodeid, generation, entry_valid, attr_valid; u32 nanoseconds of the two; fuse_attr. */
export function putEntry(view: DataView, at: number, { attributes, nameSeconds, attributeSeconds }: Entry): void {
  putHalves(view, at, attributes.node);
  putUint64(view, at + 16, nameSeconds);
  putUint64(view, at + 24, attributeSeconds);
  putAttributes(view, at + 40, attributes);
}

function message(bytes: number): { body: Buffer; view: DataView } {
  const body = Buffer.alloc(bytes);
  return { body, view: new DataView(body.buffer, body.byteOffset, bytes) };
}

export function entryBody(entry: Entry): Buffer {
  const { body, view } = message(ENTRY_BYTES);
  putEntry(view, 0, entry);
  return body;
}

/** struct fuse_attr_out: u64 attr_valid, u32 nanoseconds, padding, fuse_attr. */
export function attributesBody(attributes: Attributes, seconds: number): Buffer {
  const { body, view } = message(16 + ATTRIBUTE_BYTES);
  putUint64(view, 0, seconds);
  putAttributes(view, 16, attributes);
  return body;
}

/** struct fuse_open_out: u64 fh, u32 open_flags, s32 backing_id. */
export function openBody(handle: Uint64, flags: number, backingId = 0): Buffer {
  const { body, view } = message(16);
  putHalves(view, 0, handle);
  view.setUint32(8, flags, true);
  view.setInt32(12, backingId, true);
  return body;
}

/** struct fuse_statfs_out: u64 blocks, bfree, bavail, files, ffree; u32 bsize, namelen, frsize, padding, spare[6]. */
export function statisticsBody(statistics: Statistics): Buffer {
  const { body, view } = message(80);
  putUint64(view, 0, statistics.blocks);
  putUint64(view, 8, statistics.freeBlocks);
  putUint64(view, 16, statistics.availableBlocks);
  putUint64(view, 24, statistics.files);
  putUint64(view, 32, statistics.freeFiles);
  view.setUint32(40, statistics.blockSize, true);
  view.setUint32(44, 255, true);
  view.setUint32(48, statistics.blockSize, true);
  return body;
}

/** The header of a reply (or, with unique 0 and a positive code, of a notification). `error` as it goes over the wire. */
export function outHeader(unique: Uint64, error: number, bodyBytes: number): Buffer {
  const header = Buffer.allocUnsafe(OUT_HEADER_BYTES);
  const view = new DataView(header.buffer, header.byteOffset, OUT_HEADER_BYTES);
  view.setUint32(0, OUT_HEADER_BYTES + bodyBytes, true);
  view.setInt32(4, error, true);
  putHalves(view, 8, unique);
  return header;
}
