import { messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { PendingCall, PendingCalls } from './calls.ts';
import { isThreadDying } from './dying.ts';
import { errnoOf, FuseError } from './errno.ts';
import type { FileSystem } from './file-system.ts';
import { type Negotiated, negotiate } from './init.ts';
import { type Answer, OPERATIONS, type Operation } from './operations.ts';
import { replyLine, requestLine } from './print.ts';
import { outHeader } from './reply.ts';
import { FuseRequest, requestNumber, type Uint64 } from './request.ts';

/** Sends a reply, given in pieces. False: nobody waited for it any longer. */
export type Send = (pieces: readonly Uint8Array[]) => boolean;

/** How long the kernel waits before it asks again whether a request that a harmless signal hit is to be given up. */
const INTERRUPT_AGAIN_MS = 200;

export interface ProtocolOptions {
  readonly fileSystem: FileSystem;
  readonly send: Send;
  readonly log: Logger;
  /** INIT was answered; called before the answer is sent. */
  onInit(negotiated: Negotiated): void;
  /** Requests that come again are answered with EIO: for when one of them seems to have killed the process that had it before. */
  readonly refuseResent?: boolean;
  /** For tests. */
  readonly isThreadDying?: (pid: number) => boolean;
}

/** The protocol: bytes of one message in, bytes of its reply out, by the table of operations. It knows neither the kernel nor what the file system is. */
export class Protocol {
  readonly #options: ProtocolOptions;
  readonly #isThreadDying: (pid: number) => boolean;
  readonly calls = new PendingCalls();

  constructor(options: ProtocolOptions) {
    this.#options = options;
    this.#isThreadDying = options.isThreadDying ?? isThreadDying;
  }

  /** Takes one message, which may be overwritten when this returns. The promise, where there is one, settles when it is answered; it never rejects. */
  handle(message: Buffer): Promise<void> | undefined {
    let request: FuseRequest;
    try {
      request = new FuseRequest(message);
    } catch (err) {
      this.#options.log.error({ err }, 'a message of the kernel that cannot be read');
      return undefined;
    }
    const operation = OPERATIONS.get(request.opcode);
    if (this.#options.log.isLevelEnabled('trace')) this.#options.log.trace(requestLine(request, operation));
    const { unique } = request;
    try {
      const answer = this.#answer(request, operation);
      if (answer === undefined) return undefined;
      if (!(answer instanceof Promise)) {
        this.#deliver(unique, answer);
        return undefined;
      }
      return answer.then(
        (value) => this.#deliver(unique, value),
        (error: unknown) => this.#fail(unique, operation, error),
      );
    } catch (error) {
      this.#fail(unique, operation, error);
      return undefined;
    }
  }

  #answer(request: FuseRequest, operation: Operation | undefined): Answer | Promise<Answer> | undefined {
    if (operation === undefined) throw new FuseError('ENOSYS');
    if (request.bodyBytes < operation.bodyBytes)
      throw new RangeError(`${operation.name} with a body of ${request.bodyBytes} bytes`);
    switch (operation.handle) {
      case 'none':
        return undefined;
      case 'read-only':
        throw new FuseError('EROFS');
      case 'init':
        return this.#init(request);
      case 'interrupt':
        this.#interrupt(request);
        return undefined;
      default: {
        if (request.resent && this.#options.refuseResent === true)
          throw new FuseError('EIO', `${operation.name} came again after a crash`);
        const call = new PendingCall(request);
        const answer = operation.handle(this.#options.fileSystem, request, call);
        return answer instanceof Promise ? this.calls.track(call, answer) : answer;
      }
    }
  }

  #init(request: FuseRequest): Answer {
    const answer = negotiate(request);
    if (answer.kind === 'too-old') throw new FuseError('EPROTO', 'the kernel speaks a FUSE protocol that is too old');
    if (answer.kind === 'agreed') this.#options.onInit(answer.negotiated);
    return { body: [answer.body] };
  }

  #interrupt(request: FuseRequest): void {
    const call = this.calls.find(requestNumber(request.uint64(0)));
    if (call !== undefined && this.#isThreadDying(call.pid)) {
      this.calls.interrupt(call);
      return;
    }
    // EAGAIN makes the kernel send the interrupt once more, and drop it once the request is answered. It also serves where the interrupt
    // overtook its request.
    const { unique } = request;
    setTimeout(() => this.#reply(unique, errnoOf('EAGAIN'), []), INTERRUPT_AGAIN_MS).unref();
  }

  #deliver(unique: Uint64, answer: Answer): void {
    const delivered = this.#reply(unique, 0, answer.body);
    try {
      answer.after?.(delivered);
    } catch (err) {
      this.#options.log.error({ err }, 'after a reply');
    }
  }

  #fail(unique: Uint64, operation: Operation | undefined, error: unknown): void {
    if (!(error instanceof FuseError)) {
      this.#options.log.error({ err: error, operation: operation?.name }, `answered with EIO: ${messageOf(error)}`);
    }
    this.#reply(unique, errnoOf(error instanceof FuseError ? error.code : 'EIO'), []);
  }

  #reply(unique: Uint64, errno: number, body: readonly Uint8Array[]): boolean {
    let bytes = 0;
    for (const piece of body) bytes += piece.length;
    const header = outHeader(unique, -errno, bytes);
    if (this.#options.log.isLevelEnabled('trace'))
      this.#options.log.trace(replyLine(unique, errno, header.length + bytes));
    return this.#options.send([header, ...body]);
  }
}
