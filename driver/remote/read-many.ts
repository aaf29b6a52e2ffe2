import { orAbort } from '#core/abort.ts';
import { type Digest, digestToBytes } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Connection, Exchange } from '#core/grpc/client.ts';
import { codeOfStatus } from '#core/grpc/status.ts';
import { ContentStoreService, type ReadManyRequest, type ReadManyResponse } from '#proto/gen/gear/v1/objects.ts';

interface Waiter {
  readonly what: string;
  readonly length: number;
  readonly pieces: Buffer[];
  received: number;
  readonly resolve: (bytes: Buffer) => void;
  readonly reject: (error: unknown) => void;
}

interface Stream {
  readonly exchange: Exchange<ReadManyRequest, ReadManyResponse>;
  /** In the order asked, which is the order of the answers. */
  readonly waiters: Waiter[];
}

/**
 * Ranges of objects over one long-lived stream, answered in the order asked: a request costs one message each way and no call of its own.
 * The stream is opened at the first read and again after it broke.
 */
export class ReadMany implements Disposable {
  readonly #connection: Connection;
  #stream: Stream | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** How many answers are awaited. */
  get pending(): number {
    return this.#stream?.waiters.length ?? 0;
  }

  /** Exactly `length` bytes. Throws the server's error, unavailable when the stream breaks, the signal's reason when that aborts. */
  async read(
    digest: Digest,
    offset: number,
    length: number,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<Buffer> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    this.#stream ??= this.#open();
    const { exchange, waiters } = this.#stream;
    const what = `${length} bytes of object ${digest} at ${offset} from ${this.#connection.address}`;
    const waiter: Waiter = { what, length, pieces: [], received: 0, resolve, reject };
    waiters.push(waiter);
    const range = { digest: digestToBytes(digest), offset: BigInt(offset), length: BigInt(length) };
    // Requests are small and bounded in number by the callers: there is no need to wait for room.
    exchange.send({ ranges: [range] }).catch(reject);
    try {
      return await orAbort(promise, signal);
    } catch (error) {
      // An answer that did not come in time says that the stream is dead; one that is merely not wanted any more is thrown away when it comes.
      if (signal.aborted && signal.reason instanceof GearError && signal.reason.code === 'deadline-exceeded')
        this.#giveUp(waiter);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#break(this.#stream, new GearError('unavailable', `the stream to ${this.#connection.address} was closed`));
  }

  #open(): Stream {
    const exchange = this.#connection.exchange(ContentStoreService.readMany);
    const stream: Stream = { exchange, waiters: [] };
    void this.#receive(stream);
    return stream;
  }

  async #receive(stream: Stream): Promise<void> {
    try {
      for await (const answer of stream.exchange.answers) this.#take(stream.waiters, answer);
      this.#break(stream, new GearError('unavailable', `${this.#connection.address} ended the stream`));
    } catch (error) {
      this.#break(stream, error);
    }
  }

  #take(waiters: Waiter[], answer: ReadManyResponse): void {
    const [waiter] = waiters;
    if (waiter === undefined) throw new GearError('internal', `${this.#connection.address} answered what nobody asked`);
    if (answer.data.length > 0) {
      waiter.received += answer.data.length;
      if (waiter.received <= waiter.length) waiter.pieces.push(answer.data);
    }
    if (!answer.last) return;
    waiters.shift();
    if (answer.code !== 0) {
      waiter.reject(new GearError(codeOfStatus(answer.code), `${waiter.what}: ${answer.message}`));
    } else if (waiter.received !== waiter.length) {
      waiter.reject(new GearError('out-of-range', `${waiter.what}: ${waiter.received} bytes came`));
    } else {
      waiter.resolve(waiter.pieces.length === 1 ? (waiter.pieces[0] as Buffer) : Buffer.concat(waiter.pieces));
    }
  }

  #giveUp(waiter: Waiter): void {
    if (this.#stream?.waiters.includes(waiter) === true) {
      this.#break(this.#stream, new GearError('unavailable', `${this.#connection.address} does not answer`));
    }
  }

  #break(stream: Stream | undefined, error: unknown): void {
    if (stream === undefined) return;
    if (this.#stream === stream) this.#stream = undefined;
    stream.exchange[Symbol.dispose]();
    for (const { reject } of stream.waiters.splice(0)) reject(error);
  }
}
