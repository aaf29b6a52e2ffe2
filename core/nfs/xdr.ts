import { GearError } from '#core/errors.ts';

/** Writes XDR (RFC 4506): big-endian words of four bytes, byte strings filled up to whole words. */
export class XdrWriter {
  readonly #pieces: Buffer[] = [];

  uint32(...values: readonly number[]): this {
    const bytes = Buffer.allocUnsafe(values.length * 4);
    for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, i * 4);
    this.#pieces.push(bytes);
    return this;
  }

  /** A number of up to 2^53 - 1 as an unsigned hyper. */
  uint64(value: number): this {
    return this.uint32(Math.floor(value / 2 ** 32), value % 2 ** 32);
  }

  /** Bytes without a length, already whole words. */
  fixed(bytes: Buffer): this {
    this.#pieces.push(bytes);
    return this;
  }

  opaque(bytes: Buffer): this {
    this.uint32(bytes.length);
    this.#pieces.push(bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4));
    return this;
  }

  text(value: string): this {
    return this.opaque(Buffer.from(value));
  }

  toBuffer(): Buffer {
    return Buffer.concat(this.#pieces);
  }
}

/** Reads XDR. Throws corrupt where the message ends early. */
export class XdrReader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at = 0) {
    this.#bytes = bytes;
    this.#at = at;
  }

  uint32(): number {
    this.#need(4);
    this.#at += 4;
    return this.#bytes.readUInt32BE(this.#at - 4);
  }

  /** A view of a byte string of at most `limit` bytes. */
  opaque(limit: number): Buffer {
    const length = this.uint32();
    if (length > limit) throw new GearError('corrupt', `an NFS answer has a string of ${length} bytes; ${limit} fit`);
    this.#need(length);
    const bytes = this.#bytes.subarray(this.#at, this.#at + length);
    this.skip((length + 3) & ~3);
    return bytes;
  }

  skip(bytes: number): void {
    this.#need(bytes);
    this.#at += bytes;
  }

  #need(bytes: number): void {
    if (this.#at + bytes > this.#bytes.length) throw new GearError('corrupt', 'an NFS answer ends early');
  }
}
