import {
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
  status,
} from '@grpc/grpc-js';
import type { Guard } from './guard.ts';
import type { Identity } from './identity.ts';

/** TLS for a gRPC server, renewed while it serves. */
class RenewedCredentials extends ServerCredentials {
  constructor({
    identity,
    onRenewed,
  }: { identity: Identity; onRenewed(listener: (identity: Identity) => void): void }) {
    const asks = identity.ca !== undefined;
    super({ requestCert: asks, rejectUnauthorized: asks }, { ...identity });
    onRenewed((renewed) => this.updateSecureContextOptions({ ...renewed }));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

/** What a gRPC server listens with. */
export function grpcCredentials({ identity }: Guard): ServerCredentials {
  if (identity === undefined) return ServerCredentials.createInsecure();
  return new RenewedCredentials({
    identity: identity.current,
    onRenewed: (listener) => identity.onRenewed(listener),
  });
}

const UNAUTHENTICATED = {
  code: status.UNAUTHENTICATED,
  details: 'a token that this manager knows is needed (--token-file)',
} as const;

/** Lets only calls with an accepted token reach their handlers, and ends those whose token is revoked meanwhile. */
export function tokenInterceptor(guard: Guard): ServerInterceptor {
  return (method, call) => {
    let release = () => {};
    return new ServerInterceptingCall(call, {
      start: (next) => {
        const listener = new ServerListenerBuilder()
          .withOnReceiveMetadata((metadata, pass) => {
            const [header] = metadata.get('authorization');
            const admission = guard.admit(header?.toString(), { peer: call.getPeer(), wanted: method.path });
            if (admission === undefined) {
              call.sendStatus(UNAUTHENTICATED);
              return;
            }
            // Nobody behind here needs it, so nothing there can log it.
            metadata.remove('authorization');
            release = admission.untilRevoked(() => call.sendStatus(UNAUTHENTICATED));
            pass(metadata);
          })
          .withOnCancel(() => release())
          .build();
        next(listener);
      },
    });
  };
}
