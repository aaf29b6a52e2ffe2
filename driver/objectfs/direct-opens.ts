import { closeSync, openSync } from 'node:fs';
import { isErrno } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { backingClose, backingOpen } from '../kernel/backing.ts';
import { type NodeId, type Uint64, uint64Key } from '../kernel/fuse/request.ts';
import { type OpenNode, OpenRecord } from './open-record.ts';

/** The record is written anew when it has more rows than this and many of them say nothing any more. */
const COMPACT_ROWS = 4096;

/** What hands backing files to the kernel; `backingOpen` and `backingClose` of an open /dev/fuse. */
export interface BackingDevice {
  open(fd: number): number;
  close(id: number): void;
}

export function backingDevice(fuseFd: number): BackingDevice {
  return { open: (fd) => backingOpen(fuseFd, fd), close: (id) => backingClose(fuseFd, id) };
}

/**
 * The files that the kernel reads past us. All opens of a node at a time share one backing id, also across a change of the server process; the id is
 * given back after the last of them. In doubt an id is kept too long rather than given back too early.
 */
export class DirectOpens {
  readonly #device: BackingDevice;
  readonly #record: OpenRecord;
  readonly #log: Logger;
  readonly #nodes = new Map<string, OpenNode>();

  constructor(device: BackingDevice, recordFile: string, log: Logger) {
    this.#device = device;
    this.#log = log;
    this.#record = new OpenRecord(recordFile);
    for (const { type, node, handle, backingId } of this.#record.read()) {
      if (type === 'opened') this.#add(node, handle, backingId);
      else this.#remove(node, handle);
    }
  }

  /** How many opens there are. */
  get size(): number {
    let size = 0;
    for (const { handles } of this.#nodes.values()) size += handles.size;
    return size;
  }

  /** The backing id of a node that is open already. */
  join(node: NodeId, handle: Uint64): number | undefined {
    const known = this.#nodes.get(uint64Key(node));
    if (known === undefined) return undefined;
    this.#remember(node, handle, known.backingId);
    return known.backingId;
  }

  /** Opens the file at `path` for a node and gives the backing id. `handle` is the same when the kernel repeats the request. */
  open(node: NodeId, handle: Uint64, path: string): number {
    const known = this.join(node, handle);
    if (known !== undefined) return known;
    const fd = openSync(path, 'r');
    try {
      const backingId = this.#device.open(fd);
      try {
        this.#remember(node, handle, backingId);
      } catch (error) {
        this.#device.close(backingId);
        throw error;
      }
      return backingId;
    } finally {
      closeSync(fd);
    }
  }

  /** The open file is closed. Safe to repeat. */
  release(node: NodeId, handle: Uint64): void {
    const known = this.#nodes.get(uint64Key(node));
    if (known?.handles.has(uint64Key(handle)) !== true) return;
    this.#remove(node, handle);
    this.#record.released(node, handle, known.backingId);
    if (known.handles.size > 0) return;
    try {
      this.#device.close(known.backingId);
    } catch (err) {
      // Not worth failing for: the id is only kept until the mount goes.
      if (!isErrno(err, 'ENOENT')) this.#log.warn({ err, backingId: known.backingId }, 'backing id not given back');
    }
  }

  /** Makes the record short again; for quiet moments. */
  compact(): void {
    if (this.#record.rows > COMPACT_ROWS && this.#record.rows > 4 * this.size)
      this.#record.compact(this.#nodes.values());
  }

  close(): void {
    this.#record.close();
  }

  #remember(node: NodeId, handle: Uint64, backingId: number): void {
    if (this.#nodes.get(uint64Key(node))?.handles.has(uint64Key(handle)) === true) return;
    this.#record.opened(node, handle, backingId);
    this.#add(node, handle, backingId);
  }

  #add(node: NodeId, handle: Uint64, backingId: number): void {
    const key = uint64Key(node);
    const known = this.#nodes.get(key);
    if (known === undefined) this.#nodes.set(key, { node, backingId, handles: new Map([[uint64Key(handle), handle]]) });
    else known.handles.set(uint64Key(handle), handle);
  }

  #remove(node: NodeId, handle: Uint64): void {
    const key = uint64Key(node);
    const known = this.#nodes.get(key);
    known?.handles.delete(uint64Key(handle));
    if (known?.handles.size === 0) this.#nodes.delete(key);
  }
}
