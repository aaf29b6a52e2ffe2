import { closeSync, ftruncateSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import type { NodeId, Uint64 } from '../kernel/fuse/request.ts';

/** A node whose file the kernel reads past us, and the handles by which it is open. */
export interface OpenNode {
  readonly node: NodeId;
  readonly backingId: number;
  /** By uint64Key. */
  readonly handles: Map<string, Uint64>;
}

const ROW_BYTES = 32;
const OPENED = 1;
const RELEASED = 2;

function row(type: number, node: NodeId, handle: Uint64, backingId: number): Buffer {
  const bytes = Buffer.alloc(ROW_BYTES);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(backingId, 4);
  bytes.writeUInt32LE(node.low, 8);
  bytes.writeUInt32LE(node.high, 12);
  bytes.writeUInt32LE(handle.low, 16);
  bytes.writeUInt32LE(handle.high, 20);
  return bytes;
}

export interface RecordRow {
  readonly type: 'opened' | 'released';
  readonly node: NodeId;
  readonly handle: Uint64;
  readonly backingId: number;
}

/** Reads the rows of a record: 32 bytes each, little-endian: u32 type (1 opened, 2 released), u32 backing id, u64 node, u64 handle, zeros. */
export function parseRecord(bytes: Buffer): RecordRow[] {
  const rows: RecordRow[] = [];
  // What a full disk cut short was never answered.
  for (let at = 0; at + ROW_BYTES <= bytes.length; at += ROW_BYTES) {
    const type = bytes.readUInt32LE(at);
    if (type !== OPENED && type !== RELEASED) continue;
    rows.push({
      type: type === OPENED ? 'opened' : 'released',
      backingId: bytes.readUInt32LE(at + 4),
      node: { low: bytes.readUInt32LE(at + 8), high: bytes.readUInt32LE(at + 12) },
      handle: { low: bytes.readUInt32LE(at + 16), high: bytes.readUInt32LE(at + 20) },
    });
  }
  return rows;
}

/**
 * What the kernel has open past us, written down before it is told: it keeps backing ids through a change of the server process, and will not open a
 * file a second time with another one. Not flushed: it only has to outlive this process, not the kernel.
 */
export class OpenRecord {
  readonly #file: string;
  #fd: number;
  /** Bytes so far. */
  #size: number;

  constructor(file: string) {
    this.#file = file;
    this.#fd = openSync(file, 'a+', 0o600);
    const { length } = readFileSync(file);
    // A row that was cut short would put all later ones out of step.
    this.#size = length - (length % ROW_BYTES);
    ftruncateSync(this.#fd, this.#size);
  }

  get rows(): number {
    return this.#size / ROW_BYTES;
  }

  read(): RecordRow[] {
    return parseRecord(readFileSync(this.#file));
  }

  /** Throws ENOSPC; then the record is as it was. */
  opened(node: NodeId, handle: Uint64, backingId: number): void {
    this.#append(row(OPENED, node, handle, backingId));
  }

  released(node: NodeId, handle: Uint64, backingId: number): void {
    this.#append(row(RELEASED, node, handle, backingId));
  }

  /** Writes down only what is open now. */
  compact(nodes: Iterable<OpenNode>): void {
    const rows: Buffer[] = [];
    for (const { node, handles, backingId } of nodes) {
      for (const handle of handles.values()) rows.push(row(OPENED, node, handle, backingId));
    }
    const bytes = Buffer.concat(rows);
    const temporary = `${this.#file}.new`;
    const fd = openSync(temporary, 'a');
    ftruncateSync(fd, 0);
    writeSync(fd, bytes);
    renameSync(temporary, this.#file);
    closeSync(this.#fd);
    this.#fd = fd;
    this.#size = bytes.length;
  }

  close(): void {
    closeSync(this.#fd);
  }

  #append(bytes: Buffer): void {
    try {
      const written = writeSync(this.#fd, bytes);
      if (written !== bytes.length)
        throw Object.assign(new Error('ENOSPC: the record was cut short'), { code: 'ENOSPC' });
      this.#size += written;
    } catch (error) {
      ftruncateSync(this.#fd, this.#size);
      throw error;
    }
  }
}
