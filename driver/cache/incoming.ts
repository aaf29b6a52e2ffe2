import { type Abortable, orAbort } from '#core/abort.ts';
import type { Digest } from '#core/digest.ts';

/** A chunk that is on its way. */
interface Coming {
  /** Bytes of its batch that come before its end. */
  readonly upTo: number;
  waiter: PromiseWithResolvers<Buffer | undefined> | undefined;
}

/** Milliseconds that a reader waits for a stream rather than ask for its chunk alone: with what is under way already, that would take as long. */
const WORTH_WAITING = 1_000;
/** Where nothing tells yet how fast the stream is: what is this close to its beginning. */
const FIRST_BYTES = 2 * 1024 * 1024;
const LEAST_PATIENCE = 1_000;

/** Chunks that one stream is going to bring, in order. */
export class Batch {
  readonly #coming = new Map<string, Coming>();
  readonly #began = performance.now();
  #delivered = 0;
  #firstAt: number | undefined;

  constructor(chunks: Iterable<{ readonly digest: Digest; readonly chunk: number; readonly bytes: number }>) {
    let upTo = 0;
    for (const { digest, chunk, bytes } of chunks) {
      upTo += bytes;
      this.#coming.set(`${digest}/${chunk}`, { upTo, waiter: undefined });
    }
  }

  /** Chunks that have not come yet. */
  get size(): number {
    return this.#coming.size;
  }

  /** The chunk, once it comes; undefined when it does not come, or not soon. No promise: it is not worth waiting for. */
  claim(digest: Digest, chunk: number, { signal }: Abortable): Promise<Buffer | undefined> | undefined {
    const coming = this.#coming.get(`${digest}/${chunk}`);
    const wait = coming === undefined ? undefined : this.#milliseconds(coming.upTo - this.#delivered);
    if (coming === undefined || wait === undefined) return undefined;
    coming.waiter ??= Promise.withResolvers();
    return this.#patiently(coming.waiter.promise, LEAST_PATIENCE + 3 * wait, signal);
  }

  /** A chunk has come, verified. Gives whether somebody who waited for it takes it, and keeps it. */
  deliver(digest: Digest, chunk: number, bytes: Buffer): boolean {
    this.#firstAt ??= performance.now();
    this.#delivered += bytes.length;
    const key = `${digest}/${chunk}`;
    const waiter = this.#coming.get(key)?.waiter;
    this.#coming.delete(key);
    waiter?.resolve(bytes);
    return waiter !== undefined;
  }

  /** A chunk will not come. */
  lose(digest: Digest, chunk: number): void {
    const key = `${digest}/${chunk}`;
    this.#coming.get(key)?.waiter?.resolve(undefined);
    this.#coming.delete(key);
  }

  /** Nothing more will come. */
  end(): void {
    for (const { waiter } of this.#coming.values()) waiter?.resolve(undefined);
    this.#coming.clear();
  }

  /** Roughly until so many more bytes are here; undefined: too long. */
  #milliseconds(bytes: number): number | undefined {
    if (this.#firstAt === undefined) return bytes <= FIRST_BYTES ? WORTH_WAITING : undefined;
    const rate = this.#delivered / Math.max(1, performance.now() - this.#began);
    const wait = bytes / Math.max(rate, 1);
    return wait <= WORTH_WAITING ? wait : undefined;
  }

  async #patiently(
    promise: Promise<Buffer | undefined>,
    milliseconds: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer | undefined> {
    const { promise: late, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => resolve(undefined), milliseconds);
    try {
      return await orAbort(Promise.race([promise, late]), signal);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** What is on its way to this node without having been asked for by a reader. */
export class Incoming {
  readonly #batches = new Set<Batch>();

  add(batch: Batch): Disposable {
    this.#batches.add(batch);
    return {
      [Symbol.dispose]: () => {
        this.#batches.delete(batch);
        batch.end();
      },
    };
  }

  /** See Batch.claim. */
  claim(digest: Digest, chunk: number, options: Abortable): Promise<Buffer | undefined> | undefined {
    for (const batch of this.#batches) {
      const promise = batch.claim(digest, chunk, options);
      if (promise !== undefined) return promise;
    }
    return undefined;
  }
}
