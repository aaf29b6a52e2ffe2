import { type Abortable, orAbort } from '../abort.ts';

const EMPTY = Buffer.alloc(0);

/**
 * Cuts a stream of chunks into the pieces that a parser asks for. Pieces share memory with the chunks: copy what must outlive them.
 * What can be answered from the current chunk is answered without waiting, since a tar of small files asks often.
 */
export class ByteReader implements AsyncDisposable {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #signal: AbortSignal | undefined;
  #chunk: Buffer = EMPTY;
  #offset = 0;
  #position = 0;
  #ended = false;

  constructor(source: AsyncIterable<Uint8Array>, { signal }: Abortable = {}) {
    this.#source = source[Symbol.asyncIterator]();
    this.#signal = signal;
  }

  /** Bytes given out or skipped so far. */
  get position(): number {
    return this.#position;
  }

  /** `length` bytes if the current chunk has them, without waiting. */
  takeNow(length: number): Buffer | undefined {
    if (this.#chunk.length - this.#offset < length) return undefined;
    return this.#advance(length);
  }

  /** `length` bytes, fewer (or none) where the stream ends before. */
  async take(length: number): Promise<Buffer> {
    const now = this.takeNow(length);
    if (now !== undefined) return now;
    const pieces: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      const piece = await this.some(missing);
      if (piece === undefined) break;
      pieces.push(piece);
      missing -= piece.length;
    }
    return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces);
  }

  /** Between 1 and `most` bytes, if the current chunk has any left. */
  someNow(most: number): Buffer | undefined {
    const available = this.#chunk.length - this.#offset;
    return available === 0 ? undefined : this.#advance(Math.min(available, most));
  }

  /** Between 1 and `most` bytes; undefined at the stream's end. */
  async some(most: number): Promise<Buffer | undefined> {
    return (await this.#fill()) ? this.someNow(most) : undefined;
  }

  /** Passes over `length` bytes and gives how many the stream had. */
  async skip(length: number): Promise<number> {
    let missing = length;
    while (missing > 0) {
      const piece = this.someNow(missing) ?? (await this.some(missing));
      if (piece === undefined) break;
      missing -= piece.length;
    }
    return length - missing;
  }

  /** Reads on to the stream's end, ignoring what comes. */
  async drain(): Promise<void> {
    while (await this.#fill()) this.someNow(Number.POSITIVE_INFINITY);
  }

  /** Tells the source that no more is wanted. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    const ended = this.#source.return?.();
    // An aborted source may still be busy with the read that was given up, and would answer only after it.
    if (this.#signal?.aborted) ended?.catch(() => {});
    else await ended;
  }

  async #fill(): Promise<boolean> {
    while (this.#offset === this.#chunk.length) {
      if (this.#ended) return false;
      const next = await orAbort(this.#source.next(), this.#signal);
      if (next.done === true) {
        this.#ended = true;
        this.#chunk = EMPTY;
        this.#offset = 0;
        return false;
      }
      const { value } = next;
      this.#chunk = Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
      this.#offset = 0;
    }
    return true;
  }

  #advance(length: number): Buffer {
    const start = this.#offset;
    this.#offset += length;
    this.#position += length;
    return this.#chunk.subarray(start, this.#offset);
  }
}
