import { logVerbosity, Server, setLogVerbosity } from '@grpc/grpc-js';
import { GearError, messageOf } from '#core/errors.ts';
import { formatHostPort, parseHostPort } from '#core/grpc/address.ts';
import { MAX_MESSAGE_BYTES } from '#core/grpc/limits.ts';
import { grpcCredentials, tokenInterceptor } from '../security/grpc-guard.ts';
import type { Guard } from '../security/guard.ts';
import { widenFlowControl } from './flow-control.ts';

/** A gRPC server, and where it listens. */
export interface GrpcServer {
  readonly server: Server;
  /** "HOST:PORT", with the port that it really got. */
  listen(): Promise<string>;
  /** Takes no new calls; resolves when those under way have ended. */
  drain(): Promise<void>;
  /** Ends what is still under way. */
  close(): void;
}

/** A gRPC server for `address` ("HOST:PORT", port 0 for any) that the guard keeps. Services are added to it before it listens. */
export function createGrpcServer(address: string, option: string, guard: Guard): GrpcServer {
  const { host } = parseHostPort(address, option);
  widenFlowControl();
  // What fails is thrown, and logged by whoever catches it.
  setLogVerbosity(logVerbosity.NONE);
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 10_000,
    interceptors: guard.asksForTokens ? [tokenInterceptor(guard)] : [],
  });
  return {
    server,
    listen: async () => {
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      server.bindAsync(address, grpcCredentials(guard), (error, port) => {
        if (error === null) resolve(port);
        else reject(cannotListen(address, option, error));
      });
      return formatHostPort({ host, port: await promise });
    },
    drain: async () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      // Fails only for a server that never listened.
      server.tryShutdown(() => resolve());
      await promise;
    },
    close: () => server.forceShutdown(),
  };
}

/** The error of an address that cannot be listened on, naming it and what to do. */
export function cannotListen(address: string, option: string, cause: unknown): GearError {
  const message = messageOf(cause);
  const why = message.includes('EADDRINUSE')
    ? 'another process listens there'
    : message.includes('EADDRNOTAVAIL')
      ? 'this machine has no such address'
      : message;
  return new GearError('failed-precondition', `cannot listen on ${address}: ${why}; give another ${option}`, { cause });
}
