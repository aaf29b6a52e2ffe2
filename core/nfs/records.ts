import { GearError } from '../errors.ts';

const HEADER = 4;
const LAST_FRAGMENT = 0x8000_0000;
/** More than any answer that is asked for here. */
const MAX_RECORD = 4 * 1024 * 1024;

/**
 * Puts the records of a stream together (RFC 5531, section 11: fragments with a length of 31 bits, the highest bit marks a record's last). Throws corrupt
 * for a record that is too large.
 */
export class RecordReader {
  readonly #done: (record: Buffer) => void;
  readonly #header = Buffer.alloc(HEADER);
  #headerBytes = 0;
  #isLast = false;
  #fragments: Buffer[] = [];
  #total = 0;
  #fragment: Buffer | undefined;
  #filled = 0;

  /** Each record is given to `done` in memory of its own. */
  constructor(done: (record: Buffer) => void) {
    this.#done = done;
  }

  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      at += this.#fragment === undefined ? this.#readHeader(bytes, at) : this.#fill(this.#fragment, bytes, at);
      if (this.#fragment !== undefined && this.#filled === this.#fragment.length) this.#endFragment(this.#fragment);
    }
  }

  #readHeader(bytes: Buffer, at: number): number {
    const taken = bytes.copy(this.#header, this.#headerBytes, at, at + HEADER - this.#headerBytes);
    this.#headerBytes += taken;
    if (this.#headerBytes < HEADER) return taken;
    this.#headerBytes = 0;
    const word = this.#header.readUInt32BE();
    this.#isLast = word >= LAST_FRAGMENT;
    const length = word % LAST_FRAGMENT;
    this.#total += length;
    if (this.#total > MAX_RECORD) throw new GearError('corrupt', `an RPC record of ${this.#total} bytes`);
    this.#fragment = Buffer.allocUnsafe(length);
    this.#filled = 0;
    return taken;
  }

  #fill(fragment: Buffer, bytes: Buffer, at: number): number {
    const taken = bytes.copy(fragment, this.#filled, at, at + fragment.length - this.#filled);
    this.#filled += taken;
    return taken;
  }

  #endFragment(fragment: Buffer): void {
    this.#fragments.push(fragment);
    this.#fragment = undefined;
    if (!this.#isLast) return;
    const record = this.#fragments.length === 1 ? fragment : Buffer.concat(this.#fragments);
    this.#fragments = [];
    this.#total = 0;
    this.#done(record);
  }
}
