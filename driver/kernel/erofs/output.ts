import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { ByteString } from '#core/index/tree.ts';

/** Where the emit routine puts its bytes; the same routine runs over both kinds, so measured and written sizes cannot differ. */
export interface Output {
  /** Bytes so far. */
  readonly position: number;
  u8(value: number): void;
  u16(value: number): void;
  u32(value: number): void;
  /** Signed or unsigned, a whole number within 2^53. */
  u64(value: number): void;
  text(value: ByteString): void;
  bytes(value: Uint8Array): void;
  zeros(count: number): void;
  /** Whether drain() should be called before more than half a megabyte is added. */
  readonly full: boolean;
  drain(): Promise<void>;
}

/** The next multiple of `alignment`. */
export function roundUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/** Counts only. */
export class MeasuringOutput implements Output {
  position = 0;
  readonly full = false;

  u8(): void {
    this.position += 1;
  }
  u16(): void {
    this.position += 2;
  }
  u32(): void {
    this.position += 4;
  }
  u64(): void {
    this.position += 8;
  }
  text(value: ByteString): void {
    this.position += value.length;
  }
  bytes(value: Uint8Array): void {
    this.position += value.length;
  }
  zeros(count: number): void {
    this.position += count;
  }
  async drain(): Promise<void> {}
}

const BUFFER_SIZE = 1 << 20;
const HIGH_WATER = BUFFER_SIZE / 2;

/** Writes to a file from its start, through one buffer. */
export class WritingOutput implements Output {
  readonly #file: FileHandle;
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_SIZE);
  readonly #view = new DataView(this.#buffer.buffer);
  readonly #hash = createHash('sha256');
  readonly #headSize: number;
  #head: Buffer | undefined;
  // Where in the file the buffer's first byte belongs.
  #start = 0;
  #used = 0;

  /** Keeps a copy of the first `headSize` bytes (at most half a megabyte) for `head`. */
  constructor(file: FileHandle, headSize: number) {
    this.#file = file;
    this.#headSize = headSize;
  }

  get position(): number {
    return this.#start + this.#used;
  }
  get full(): boolean {
    return this.#used >= HIGH_WATER;
  }
  u8(value: number): void {
    this.#view.setUint8(this.#used, value);
    this.#used += 1;
  }
  u16(value: number): void {
    this.#view.setUint16(this.#used, value, true);
    this.#used += 2;
  }
  u32(value: number): void {
    this.#view.setUint32(this.#used, value, true);
    this.#used += 4;
  }
  u64(value: number): void {
    this.#view.setUint32(this.#used, value % 2 ** 32, true);
    this.#view.setInt32(this.#used + 4, Math.floor(value / 2 ** 32), true);
    this.#used += 8;
  }
  text(value: ByteString): void {
    this.#used += this.#buffer.write(value, this.#used, value.length, 'latin1');
  }
  bytes(value: Uint8Array): void {
    this.#buffer.set(value, this.#used);
    this.#used += value.length;
  }
  zeros(count: number): void {
    this.#buffer.fill(0, this.#used, this.#used + count);
    this.#used += count;
  }

  async drain(): Promise<void> {
    const chunk = this.#buffer.subarray(0, this.#used);
    this.#head ??= Buffer.from(chunk.subarray(0, this.#headSize));
    this.#hash.update(chunk);
    let done = 0;
    while (done < chunk.length) {
      done += (await this.#file.write(chunk, done, chunk.length - done, this.#start + done)).bytesWritten;
    }
    this.#start += this.#used;
    this.#used = 0;
  }

  /** Writes what is left. Gives the first bytes, which the caller may still change and write, and the sha256 of all as it was written. */
  async finish(): Promise<{ head: Buffer; sha256: Buffer }> {
    await this.drain();
    return { head: this.#head as Buffer, sha256: this.#hash.digest() };
  }
}
