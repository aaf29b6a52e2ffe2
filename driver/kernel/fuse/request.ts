import { UNIQUE_RESEND_HIGH } from './flags.ts';

/** struct fuse_in_header of linux/fuse.h, little-endian here: u32 len, opcode; u64 unique, nodeid; u32 uid, gid, pid; u16 extensions, padding. */
export const IN_HEADER_BYTES = 40;

/** A 64-bit number in two halves: as a number it would be too large, as a bigint slow. */
export interface Uint64 {
  readonly high: number;
  readonly low: number;
}
/** Names an inode; 1 is the root. */
export type NodeId = Uint64;

export const ROOT_NODE: NodeId = { high: 0, low: 1 };

/** As a Map's key. */
export function uint64Key({ high, low }: Uint64): string {
  return `${high.toString(16)}:${low.toString(16)}`;
}

/** As a number; exact up to 2^53. */
export function uint64ToNumber({ high, low }: Uint64): number {
  return high * 2 ** 32 + low;
}

/** A request's number without the mark of a repetition. */
export function requestNumber(unique: Uint64): Uint64 {
  return { high: unique.high & ~UNIQUE_RESEND_HIGH, low: unique.low };
}

/** One message of the kernel. A view: it is void as soon as its buffer is read into again. */
export class FuseRequest {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly opcode: number;
  /** The request's number with the mark of a repetition; a reply carries it back as it is. */
  readonly unique: Uint64;
  readonly node: NodeId;
  readonly uid: number;
  readonly gid: number;
  /** Of the thread that asks; 0 where it cannot be seen from here. */
  readonly pid: number;

  /** Takes exactly one message. Throws RangeError when it is cut short. */
  constructor(bytes: Buffer) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (bytes.length < IN_HEADER_BYTES || view.getUint32(0, true) !== bytes.length) {
      throw new RangeError(`a FUSE message of ${bytes.length} bytes, its header says otherwise`);
    }
    this.#bytes = bytes;
    this.#view = view;
    this.opcode = view.getUint32(4, true);
    this.unique = { low: view.getUint32(8, true), high: view.getUint32(12, true) };
    this.node = { low: view.getUint32(16, true), high: view.getUint32(20, true) };
    this.uid = view.getUint32(24, true);
    this.gid = view.getUint32(28, true);
    this.pid = view.getUint32(32, true);
  }

  /** Whether the kernel sends it again, because the process that had it before is gone. */
  get resent(): boolean {
    return this.unique.high >= UNIQUE_RESEND_HIGH;
  }

  /** The request's number: the same when it is sent again. */
  get number(): Uint64 {
    return requestNumber(this.unique);
  }

  /** Bytes behind the header. */
  get bodyBytes(): number {
    return this.#bytes.length - IN_HEADER_BYTES;
  }

  /** At `offset` in the body. */
  uint32(offset: number): number {
    return this.#view.getUint32(IN_HEADER_BYTES + offset, true);
  }

  /** At `offset` in the body. */
  uint64(offset: number): Uint64 {
    return { low: this.uint32(offset), high: this.uint32(offset + 4) };
  }

  /** The NUL-terminated name at `offset` in the body, one character a byte. Throws RangeError where there is no NUL. */
  nameAt(offset: number): string {
    const start = IN_HEADER_BYTES + offset;
    const end = this.#bytes.indexOf(0, start);
    if (end < 0) throw new RangeError('a FUSE message whose name has no end');
    return this.#bytes.toString('latin1', start, end);
  }
}
