import { GearError } from '../errors.ts';
import type { ByteReader } from './byte-reader.ts';
import { expand, type SparseMap } from './sparse.ts';

/** Content of what has none. */
export const NO_CONTENT: AsyncIterable<Buffer> = {
  [Symbol.asyncIterator]: () => ({ next: async () => ({ done: true, value: undefined }) }),
};

/** The content of the current entry, read from the tar while it is consumed. Written by hand since a generator for each small file costs time. */
export class EntryContent implements AsyncIterable<Buffer>, AsyncIterator<Buffer, undefined> {
  readonly #reader: ByteReader;
  readonly #name: string;
  readonly #size: number;
  readonly #sparse: SparseMap | undefined;
  readonly #signal: AbortSignal | undefined;
  #left: number;
  #opened = false;
  #closed = false;

  /** `name` is the entry's, for errors; `size` the bytes that it has in the tar (without holes). */
  constructor(reader: ByteReader, name: string, size: number, sparse?: SparseMap, signal?: AbortSignal) {
    this.#reader = reader;
    this.#name = name;
    this.#size = size;
    this.#left = size;
    this.#sparse = sparse;
    this.#signal = signal;
  }

  [Symbol.asyncIterator](): AsyncIterator<Buffer> {
    if (this.#opened) throw this.#gone('can be read only once');
    this.#opened = true;
    return this.#sparse === undefined ? this : expand(this.#sparse, (most) => this.#piece(most), this.#signal);
  }

  next(most = this.#left): Promise<IteratorResult<Buffer, undefined>> {
    if (this.#closed) return Promise.reject(this.#gone('is gone, since the next entry was asked for'));
    if (this.#left === 0) return Promise.resolve({ done: true, value: undefined });
    const piece = this.#reader.someNow(most);
    if (piece === undefined) return this.#wait(most);
    this.#left -= piece.length;
    return Promise.resolve({ done: false, value: piece });
  }

  return(): Promise<IteratorResult<Buffer, undefined>> {
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Passes over what was not consumed, and the zeros up to the next block. */
  async finish(): Promise<void> {
    this.#closed = true;
    if (this.#left > 0) {
      this.#left -= await this.#reader.skip(this.#left);
      if (this.#left > 0) throw this.#truncated();
    }
    const padding = -this.#size & 511;
    // A tar that ends without the last entry's padding has lost nothing.
    if (padding > 0 && this.#reader.takeNow(padding) === undefined) await this.#reader.skip(padding);
  }

  async #wait(most: number): Promise<IteratorResult<Buffer, undefined>> {
    const piece = await this.#reader.some(most);
    if (piece === undefined) throw this.#truncated();
    this.#left -= piece.length;
    return { done: false, value: piece };
  }

  async #piece(most: number): Promise<Buffer> {
    const next = await this.next(most);
    if (next.done === true) throw this.#truncated();
    return next.value;
  }

  #truncated(): GearError {
    const got = this.#size - this.#left;
    return new GearError(
      'corrupt',
      `the tar ends in the content of ${this.#name}, after ${got} of ${this.#size} bytes`,
    );
  }

  #gone(why: string): GearError {
    return new GearError('failed-precondition', `the content of ${this.#name} ${why}`);
  }
}
