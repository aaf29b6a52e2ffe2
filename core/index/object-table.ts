import { readFileSync } from 'node:fs';
import { DIGEST_BYTES, type Digest, digestFromBytes, digestToBytes } from '../digest.ts';
import { GearError } from '../errors.ts';

/**
 * The objects of one image, compiled from its index: found by digest with a binary search straight on the bytes, nothing decoded.
 *
 * Little-endian. Header, 64 bytes:
 *      0  magic "GEAROBJS"      8  u32 version (1)       12  u32 slot             16  u32 chunk size
 *     20  u32 count            24  u64 bytes of all      32  u64 bytes of the file    40  zeros
 * then `count` rows of 48 bytes in strictly ascending order of the digests:
 *      0  digest, 32 bytes     32  u64 size              40  u64 offset of the chunk digests from the start of the file; 0: one chunk
 * then the chunk digests, 32 bytes each.
 */
const MAGIC = Buffer.from('GEAROBJS', 'latin1');
const VERSION = 1;
const HEADER_BYTES = 64;
const ROW_BYTES = 48;
const MAX_COUNT = 2 ** 30 - 1;

/** What the table needs to know of an object. */
export interface ObjectFacts {
  /** Bytes; more than 0. */
  readonly size: number;
  /** 32 bytes each, concatenated; empty unless the object is larger than one chunk. */
  readonly chunkDigests: Buffer;
}

export interface ObjectRow extends ObjectFacts {
  readonly digest: Digest;
}

function writeUint64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % 2 ** 32, true);
  view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
}

function readUint64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true);
}

function chunksOf(size: number, chunkSize: number): number {
  return Math.ceil(size / chunkSize);
}

/**
 * Compiles a table. `slot` (1 to 2^31 - 1) is a number that this node gives to this image and never to another: the object filesystem's
 * node ids are made of it. Throws invalid-argument for a size or a chunk list that cannot be.
 */
export function writeObjectTable(
  objects: ReadonlyMap<Digest, ObjectFacts>,
  { slot, chunkSize }: { readonly slot: number; readonly chunkSize: number },
): Buffer {
  if (!Number.isInteger(slot) || slot < 1 || slot >= 2 ** 31) {
    throw new GearError('invalid-argument', `an image's slot is a number from 1 to 2^31 - 1, not ${slot}`);
  }
  if (objects.size > MAX_COUNT) throw new GearError('invalid-argument', `too many objects: ${objects.size}`);
  const digests = [...objects.keys()].sort();
  let chunkBytes = 0;
  for (const facts of objects.values()) chunkBytes += facts.chunkDigests.length;
  const rowsEnd = HEADER_BYTES + digests.length * ROW_BYTES;
  const table = Buffer.alloc(rowsEnd + chunkBytes);
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  let chunkOffset = rowsEnd;
  let total = 0;
  for (const [row, digest] of digests.entries()) {
    const { size, chunkDigests } = objects.get(digest) as ObjectFacts;
    const chunks = size > chunkSize ? chunksOf(size, chunkSize) : 0;
    if (!Number.isSafeInteger(size) || size < 1 || chunkDigests.length !== chunks * DIGEST_BYTES) {
      throw new GearError(
        'invalid-argument',
        `object ${digest}: ${size} bytes cannot have ${chunkDigests.length / DIGEST_BYTES} chunk digests`,
      );
    }
    const at = HEADER_BYTES + row * ROW_BYTES;
    digestToBytes(digest).copy(table, at);
    writeUint64(view, at + 32, size);
    if (chunks > 0) {
      writeUint64(view, at + 40, chunkOffset);
      chunkDigests.copy(table, chunkOffset);
      chunkOffset += chunkDigests.length;
    }
    total += size;
  }
  MAGIC.copy(table);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, slot, true);
  view.setUint32(16, chunkSize, true);
  view.setUint32(20, digests.length, true);
  writeUint64(view, 24, total);
  writeUint64(view, 32, table.length);
  return table;
}

/** A table that was read. Rows are numbered from 0 in ascending order of their digests. */
export class ObjectTable {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly slot: number;
  /** Bytes in a chunk. */
  readonly chunkSize: number;
  /** How many objects there are. */
  readonly count: number;
  /** Bytes of all objects. */
  readonly totalBytes: number;

  /** Takes what `writeObjectTable` gave. Throws corrupt, naming `name`, for anything else. */
  constructor(bytes: Buffer, name: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const damaged = (what: string) =>
      new GearError('corrupt', `object table ${name}: ${what}; compile it from the index again`);
    if (bytes.length < HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC))
      throw damaged('not an object table');
    const version = this.#view.getUint32(8, true);
    if (version !== VERSION) throw damaged(`version ${version} instead of ${VERSION}`);
    this.slot = this.#view.getUint32(12, true);
    this.chunkSize = this.#view.getUint32(16, true);
    this.count = this.#view.getUint32(20, true);
    this.totalBytes = readUint64(this.#view, 24);
    if (this.slot === 0 || this.slot >= 2 ** 31 || this.chunkSize === 0 || this.count > MAX_COUNT)
      throw damaged('impossible header');
    if (readUint64(this.#view, 32) !== bytes.length)
      throw damaged(`${bytes.length} bytes long, the header says otherwise`);
    const problem = this.#check();
    if (problem !== undefined) throw damaged(problem);
  }

  /** Reads a table from a file. Throws the file's error, or corrupt. */
  static open(path: string): ObjectTable {
    return new ObjectTable(readFileSync(path), path);
  }

  /** The row of an object, or undefined. */
  find(digest: Digest): number | undefined {
    const wanted = digestToBytes(digest);
    let [low, high] = this.prefixRange(wanted[0] as number);
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = HEADER_BYTES + middle * ROW_BYTES;
      const order = this.#bytes.compare(wanted, 0, DIGEST_BYTES, at, at + DIGEST_BYTES);
      if (order === 0) return middle;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return undefined;
  }

  /** The rows (first, and the one behind the last) whose digests start with this byte. */
  prefixRange(prefix: number): [start: number, end: number] {
    return [this.#firstFrom(prefix), this.#firstFrom(prefix + 1)];
  }

  digest(row: number): Digest {
    const at = this.#at(row);
    return digestFromBytes(this.#bytes.subarray(at, at + DIGEST_BYTES));
  }

  /** Bytes of the object. */
  size(row: number): number {
    return readUint64(this.#view, this.#at(row) + 32);
  }

  /** How many chunks the object has; at least 1. */
  chunkCount(row: number): number {
    return chunksOf(this.size(row), this.chunkSize);
  }

  /** The digests of the object's chunks, concatenated; empty where it is at most one chunk. A view, not a copy. */
  chunkDigests(row: number): Buffer {
    const start = readUint64(this.#view, this.#at(row) + 40);
    return start === 0
      ? this.#bytes.subarray(0, 0)
      : this.#bytes.subarray(start, start + this.chunkCount(row) * DIGEST_BYTES);
  }

  /** The digest (32 bytes, a view) of one chunk; of an object of one chunk, the object's. */
  chunkDigest(row: number, chunk: number): Buffer {
    const at = this.#at(row);
    const start = readUint64(this.#view, at + 40);
    const from = start === 0 ? at : start + chunk * DIGEST_BYTES;
    if (chunk < 0 || chunk >= this.chunkCount(row)) {
      throw new GearError('out-of-range', `object ${this.digest(row)} has no chunk ${chunk}`);
    }
    return this.#bytes.subarray(from, from + DIGEST_BYTES);
  }

  row(row: number): ObjectRow {
    return { digest: this.digest(row), size: this.size(row), chunkDigests: this.chunkDigests(row) };
  }

  *rows(): Generator<ObjectRow> {
    for (let row = 0; row < this.count; row++) yield this.row(row);
  }

  #at(row: number): number {
    if (row < 0 || row >= this.count) throw new GearError('out-of-range', `the object table has no row ${row}`);
    return HEADER_BYTES + row * ROW_BYTES;
  }

  #firstFrom(prefix: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#bytes[HEADER_BYTES + middle * ROW_BYTES] as number) < prefix) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // Once, when opened: afterwards every offset in the table can be used without a thought.
  #check(): string | undefined {
    const rowsEnd = HEADER_BYTES + this.count * ROW_BYTES;
    let chunkOffset = rowsEnd;
    if (rowsEnd > this.#bytes.length) return 'cut short';
    for (let row = 0; row < this.count; row++) {
      const at = HEADER_BYTES + row * ROW_BYTES;
      if (
        row > 0 &&
        this.#bytes.compare(this.#bytes, at, at + DIGEST_BYTES, at - ROW_BYTES, at - ROW_BYTES + DIGEST_BYTES) >= 0
      ) {
        return `row ${row} is out of order`;
      }
      const size = readUint64(this.#view, at + 32);
      const start = readUint64(this.#view, at + 40);
      if (size === 0 || !Number.isSafeInteger(size)) return `row ${row} has an impossible size`;
      if (start !== (size > this.chunkSize ? chunkOffset : 0)) return `row ${row} has its chunks in the wrong place`;
      if (start !== 0) chunkOffset += chunksOf(size, this.chunkSize) * DIGEST_BYTES;
    }
    return chunkOffset === this.#bytes.length ? undefined : 'its length does not fit its rows';
  }
}
