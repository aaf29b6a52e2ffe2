import {
  type CallOptions,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import type { Abortable } from '../abort.ts';
import { GearError, messageOf } from '../errors.ts';
import { type Access, TokenHeader } from '../security/access.ts';
import { explainRefusal } from '../security/tls-failure.ts';
import { formatHostPort, type HostPort, parseHostPort } from './address.ts';
import { TlsCredentials } from './credentials.ts';
import { FLOW_CONTROL_WINDOW, MAX_MESSAGE_BYTES } from './limits.ts';
import { Sender } from './sender.ts';
import { fromServiceError } from './status.ts';

/** How long a call may take, and who may end it. */
export interface CallLimits extends Abortable {
  /** Milliseconds for the whole call; undefined: without end. */
  readonly timeout?: number | undefined;
}

type Method<Q, A> = MethodDefinition<Q, A>;

/** A call in which both sides send many messages. Disposing it cancels what is still under way. */
export interface Exchange<Q, A> extends Disposable {
  /** Sends one message; resolves when there is room for the next. Throws what ended the call. */
  send(message: Q): Promise<void>;
  /** Nothing more is sent. */
  end(): void;
  /** What the other side sends, in order; throws what ended the call unless that was its proper end. To be read once. */
  readonly answers: AsyncIterable<A>;
}

/**
 * One connection (made at the first call, made again when it broke) to a gear service. Methods are those of the generated service definitions:
 * `connection.unary(ContentStoreService.findMissing, { digests })`. Every call throws a GearError with the status's code; the
 * signal's reason where the caller's signal ended it.
 */
export class Connection implements Disposable {
  readonly address: string;
  readonly #client: Client;
  readonly #access: Access;
  readonly #token: TokenHeader | undefined;

  /** `peer`: of TCP, or "unix:PATH". */
  constructor(peer: HostPort | string, access: Access = {}) {
    this.address = typeof peer === 'string' ? peer : formatHostPort(peer);
    this.#access = access;
    this.#token = access.tokenFile === undefined ? undefined : new TokenHeader(access.tokenFile);
    const isSecure = access.ca !== undefined && typeof peer !== 'string';
    const security = isSecure ? new TlsCredentials(peer, access) : credentials.createInsecure();
    this.#client = new Client(this.address, security, {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc.keepalive_time_ms': 20_000,
      'grpc.keepalive_timeout_ms': 10_000,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1_000,
      'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW,
      // Whoever calls knows whether a call may be repeated; and a stream's messages must not be kept for a repetition.
      'grpc.enable_retries': 0,
      // A manager is inside the cluster: a proxy for the internet, named in the environment, must not catch its traffic.
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
      // With the process's common pool, closing this would leave its connection open.
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  /** One request, one answer. */
  async unary<Q, A>(method: Method<Q, A>, request: Q, limits: CallLimits = {}): Promise<A> {
    limits.signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<A>();
    const call = this.#client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      this.#metadata(),
      options(limits),
      (error, answer) => (error === null ? resolve(answer as A) : reject(error)),
    );
    return await this.#guard(method, call, limits, promise);
  }

  /** One request, many answers. Leaving the loop early cancels the call. */
  async *serverStream<Q, A>(method: Method<Q, A>, request: Q, limits: CallLimits = {}): AsyncGenerator<A, void, void> {
    limits.signal?.throwIfAborted();
    const { path, requestSerialize, responseDeserialize } = method;
    const call = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      this.#metadata(),
      options(limits),
    );
    // Cancelling is reported as an error event, also when nobody reads any longer.
    call.on('error', () => {});
    using _cancel = cancelOn(limits.signal, call);
    try {
      yield* call as AsyncIterable<A>;
    } catch (error) {
      throw this.#translate(method, error, limits.signal);
    } finally {
      call.cancel();
    }
  }

  /** Many requests, one answer. The requests are asked for no faster than they can be sent, and not any more once the call has ended. */
  async clientStream<Q, A>(method: Method<Q, A>, requests: AsyncIterable<Q>, limits: CallLimits = {}): Promise<A> {
    limits.signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<A>();
    const call = this.#client.makeClientStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      this.#metadata(),
      options(limits),
      (error, answer) => (error === null ? resolve(answer as A) : reject(error)),
    );
    const sender = new Sender<Q>(call, promise);
    const work = async () => {
      try {
        for await (const request of requests) await sender.send(request);
        call.end();
      } catch (error) {
        // The requests' own failure ends the call; the call's own failure comes out of `promise`.
        if (!sender.ended) {
          promise.catch(() => {});
          call.cancel();
          throw error;
        }
      }
      return await promise;
    };
    const sending = work();
    // When the call fails, what still waits for the next request must not hold up the caller.
    sending.catch(() => {});
    return await this.#guard(method, call, limits, Promise.race([sending, promise]));
  }

  /** Both sides send many messages. */
  exchange<Q, A>(method: Method<Q, A>, limits: CallLimits = {}): Exchange<Q, A> {
    limits.signal?.throwIfAborted();
    const { path, requestSerialize, responseDeserialize } = method;
    const call: ClientDuplexStream<Q, A> = this.#client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      this.#metadata(),
      options(limits),
    );
    // Until the first read grpc-js takes in whatever comes, without bounds.
    call.read(0);
    const ended = new Promise<never>((_, reject) => {
      call.on('error', reject);
      call.on('status', () => reject(new GearError('unavailable', `${this.#name(method)}: the stream has ended`)));
    });
    ended.catch(() => {});
    const sender = new Sender<Q>(call, ended);
    const cancel = cancelOn(limits.signal, call);
    const translate = (error: unknown) => this.#translate(method, error, limits.signal);
    async function* answers(): AsyncGenerator<A, void, void> {
      try {
        yield* call as AsyncIterable<A>;
      } catch (error) {
        throw translate(error);
      } finally {
        call.cancel();
      }
    }
    return {
      send: async (message) => {
        try {
          await sender.send(message);
        } catch (error) {
          throw translate(error);
        }
      },
      end: () => call.end(),
      answers: answers(),
      [Symbol.dispose]: () => {
        cancel[Symbol.dispose]();
        call.cancel();
      },
    };
  }

  /** Ends all calls and closes the connection. */
  close(): void {
    this.#client.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #guard<A>(
    method: { readonly path: string },
    call: { cancel(): void },
    { signal }: CallLimits,
    promise: Promise<A>,
  ): Promise<A> {
    using _cancel = cancelOn(signal, call);
    try {
      return await promise;
    } catch (error) {
      throw this.#translate(method, error, signal);
    }
  }

  /** With the token, where there is one. A file that cannot be read now may be whole again soon. */
  #metadata(): Metadata {
    const metadata = new Metadata();
    if (this.#token === undefined) return metadata;
    try {
      metadata.set('authorization', this.#token.value);
    } catch (error) {
      throw new GearError('unavailable', messageOf(error), { cause: error });
    }
    return metadata;
  }

  #name(method: { readonly path: string }): string {
    return `${method.path.slice(method.path.lastIndexOf('/') + 1)} at ${this.address}`;
  }

  #translate(method: { readonly path: string }, error: unknown, signal: AbortSignal | undefined): unknown {
    if (!isServiceError(error)) return error;
    if (error.code === status.CANCELLED && signal?.aborted === true) return signal.reason;
    const explained = error.code === status.UNAVAILABLE && explainRefusal(error.details, this.address, this.#access);
    return fromServiceError(error, this.#name(method), explained || undefined);
  }
}

/** A connection to the service at "HOST:PORT". Throws invalid-argument; connects at the first call only. */
export function connect(address: string, what = 'manager address', access: Access = {}): Connection {
  return new Connection(parseHostPort(address, what), access);
}

function options({ timeout }: CallLimits): CallOptions {
  return timeout === undefined ? {} : { deadline: Date.now() + timeout };
}

function cancelOn(signal: AbortSignal | undefined, call: { cancel(): void }): Disposable {
  const onAbort = () => call.cancel();
  signal?.addEventListener('abort', onAbort, { once: true });
  return { [Symbol.dispose]: () => signal?.removeEventListener('abort', onAbort) };
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as ServiceError).code === 'number' && 'details' in error;
}
