import {
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type MethodDefinition,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  status,
} from '@grpc/grpc-js';
import { GearError } from '#core/errors.ts';
import { Sender } from '#core/grpc/sender.ts';
import { toStatus } from '#core/grpc/status.ts';
import type { Logger } from '#core/log.ts';
import type { Counter } from './metrics.ts';
import type { Transfer, Transfers } from './transfers.ts';
import { untilAborted } from './until-aborted.ts';

/** What every call is given beside its request. */
export interface CallContext {
  /** Aborts when the client has gone, its deadline has passed, or the manager can wait no longer. */
  readonly signal: AbortSignal;
  /** Aborts when the manager is about to stop: a call that has no end of its own should come to one. */
  readonly draining: AbortSignal;
  readonly log: Logger;
  /** Where a call that moves objects or indexes counts their bytes. */
  readonly transfer: Transfer;
}

/** What the handlers of a server have in common. */
export interface HandlerEnvironment {
  readonly log: Logger;
  /** See CallContext. */
  readonly draining: AbortSignal;
  /** Aborts when calls under way must end. */
  readonly stop: AbortSignal;
  /** Calls that ended, by method and status. */
  readonly calls: Counter;
  readonly transfers: Transfers;
}

/** Sends one message; what it gives, if anything, is to be awaited before the next. */
export type Send<A> = (answer: A) => Promise<void> | undefined;

interface AnyCall {
  getPeer(): string;
  on(event: 'cancelled', listener: () => void): unknown;
}

/**
 * Makes grpc-js handlers of async functions. There is one way for all calls: errors become status codes, a client that goes away aborts the call's
 * signal, a failed call is logged in one line, and every call is counted.
 */
export class Handlers {
  readonly #environment: HandlerEnvironment;
  readonly #running = new Set<Promise<unknown>>();

  constructor(environment: HandlerEnvironment) {
    this.#environment = environment;
  }

  unary<Q, A>(
    method: MethodDefinition<Q, A>,
    handle: (request: Q, context: CallContext) => Promise<A>,
  ): handleUnaryCall<Q, A> {
    return (call: ServerUnaryCall<Q, A>, callback) => {
      void this.#run(method, call, async (context) => await handle(call.request, context)).then(
        (answer) => callback(null, answer),
        (error: unknown) => callback(toStatus(error)),
      );
    };
  }

  serverStream<Q, A>(
    method: MethodDefinition<Q, A>,
    handle: (request: Q, send: Send<A>, context: CallContext) => Promise<void>,
  ): handleServerStreamingCall<Q, A> {
    return (call) => {
      void this.#run(method, call, async (context, over) => {
        const sender = new Sender<A>(call, over);
        await handle(call.request, (answer) => sender.send(answer), context);
      }).then(
        () => call.end(),
        (error: unknown) => call.emit('error', toStatus(error)),
      );
    };
  }

  clientStream<Q, A>(
    method: MethodDefinition<Q, A>,
    handle: (requests: AsyncIterable<Q>, context: CallContext) => Promise<A>,
  ): handleClientStreamingCall<Q, A> {
    return (call: ServerReadableStream<Q, A>, callback) => {
      void this.#run(method, call, async (context) => await handle(messagesOf(call, context.signal), context)).then(
        (answer) => callback(null, answer),
        (error: unknown) => callback(toStatus(error)),
      );
    };
  }

  exchange<Q, A>(
    method: MethodDefinition<Q, A>,
    handle: (requests: AsyncIterable<Q>, send: Send<A>, context: CallContext) => Promise<void>,
  ): handleBidiStreamingCall<Q, A> {
    return (call) => {
      void this.#run(method, call, async (context, over) => {
        const sender = new Sender<A>(call, over);
        await handle(messagesOf(call, context.signal), (answer) => sender.send(answer), context);
      }).then(
        () => call.end(),
        (error: unknown) => call.emit('error', toStatus(error)),
      );
    };
  }

  /** Resolves when no call is under way. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }

  async #run<T>(
    method: { readonly path: string },
    call: AnyCall,
    work: (context: CallContext, over: Promise<never>) => Promise<T>,
  ): Promise<T> {
    const running = this.#serve(method, call, work);
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async #serve<T>(
    method: { readonly path: string },
    call: AnyCall,
    work: (context: CallContext, over: Promise<never>) => Promise<T>,
  ): Promise<T> {
    const { log, draining, stop, calls, transfers } = this.#environment;
    const began = performance.now();
    const name = method.path.slice(method.path.lastIndexOf('/') + 1);
    const controller = new AbortController();
    const { promise: over, reject } = Promise.withResolvers<never>();
    over.catch(() => {});
    const end = (error: unknown) => {
      controller.abort(error);
      reject(error);
    };
    call.on('cancelled', () => end(new GearError('cancelled', 'the client has gone')));
    const onStop = () => end(stop.reason);
    stop.addEventListener('abort', onStop, { once: true });
    let code: status = status.OK;
    using transfer = transfers.open({ peer: call.getPeer(), what: name });
    try {
      stop.throwIfAborted();
      return await work({ signal: controller.signal, draining, log: log.child({ call: name }), transfer }, over);
    } catch (thrown) {
      // A stream that was cut off reports that in words of its own.
      const error: unknown = controller.signal.aborted ? controller.signal.reason : thrown;
      code = toStatus(error).code;
      const facts = {
        call: name,
        peer: call.getPeer(),
        code: status[code],
        ms: Math.round(performance.now() - began),
        err: error,
      };
      if (code === status.INTERNAL || code === status.DATA_LOSS || code === status.RESOURCE_EXHAUSTED)
        log.error(facts, 'call failed');
      else if (code === status.CANCELLED) log.debug(facts, 'call cancelled');
      else log.info(facts, 'call failed');
      throw error;
    } finally {
      stop.removeEventListener('abort', onStop);
      calls.add(1, { method: name, code: status[code] });
    }
  }
}

/** What the client sends; throws the signal's reason when it aborts. */
async function* messagesOf<Q>(
  call: ServerReadableStream<Q, unknown> | ServerDuplexStream<Q, unknown>,
  signal: AbortSignal,
): AsyncGenerator<Q, void, void> {
  // A loop over the stream itself would destroy it at its end, and with it the side that answers.
  yield* untilAborted(call.iterator({ destroyOnReturn: false }) as AsyncIterable<Q>, signal);
  signal.throwIfAborted();
}
