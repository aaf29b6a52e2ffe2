import { GearError } from '../errors.ts';

/** The writing side of a stream of messages, as grpc-js has it on a client and on a server. */
export interface MessageSink<M> {
  write(message: M): boolean;
  on(event: 'drain', listener: () => void): unknown;
}

/** Sends messages no faster than the other side takes them. */
export class Sender<M> {
  readonly #sink: MessageSink<M>;
  #waiting: PromiseWithResolvers<void> | undefined;
  #reason: unknown;
  #ended = false;

  /** `over` settles when the call has ended, for whatever reason. */
  constructor(sink: MessageSink<M>, over: Promise<unknown>) {
    this.#sink = sink;
    sink.on('drain', () => this.#room());
    over.then(
      () => this.#end(new GearError('unavailable', 'the call ended before everything was sent')),
      (error: unknown) => this.#end(error),
    );
  }

  /** Whether the call is over. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Resolves when there is room for the next message; at once, mostly. Throws what ended the call. */
  send(message: M): Promise<void> | undefined {
    if (this.#ended) throw this.#reason;
    if (this.#sink.write(message) !== false) return undefined;
    this.#waiting ??= Promise.withResolvers<void>();
    return this.#waiting.promise;
  }

  #room(): void {
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }

  #end(reason: unknown): void {
    this.#ended = true;
    this.#reason = reason;
    this.#waiting?.promise.catch(() => {});
    this.#waiting?.reject(reason);
    this.#waiting = undefined;
  }
}
