import { GearError, isGearError } from '#core/errors.ts';
import { type Connection, connect } from '#core/grpc/client.ts';
import type { Access } from '#core/security/access.ts';

/** How long the answer to a small question may take; milliseconds. */
export const ANSWER_TIMEOUT = 5_000;

/** The errors of a call that say nothing of what was asked, but that no manager answered: in one sentence, with what to do. */
function explain(error: unknown, address: string): unknown {
  const advice = 'say where the manager listens with --manager HOST:PORT, or start one with "gear manager"';
  if (isGearError(error, 'unauthenticated')) {
    return new GearError(
      'unauthenticated',
      `the manager at ${address} lets only those in who have a token that it knows; give --token-file FILE`,
      { cause: error },
    );
  }
  if (isGearError(error, 'unavailable')) {
    const tls = /\bTLS: .*/s.exec(error.message)?.[0];
    if (tls !== undefined)
      return new GearError('unavailable', `no manager to use at ${address}: ${tls}`, { cause: error });
    const refused = /ECONNREFUSED/.test(error.message);
    const unknown = /ENOTFOUND|EAI_AGAIN|Name resolution/.test(error.message);
    const why = refused ? 'nothing listens there' : unknown ? 'there is no such host' : 'the connection failed';
    const isOther = /hangs up|protocol error|ERR_HTTP2|PROTOCOL_ERROR|ECONNRESET|socket hang up/i.test(error.message);
    return new GearError(
      'unavailable',
      `no manager at ${address}: ${isOther ? 'what listens there speaks no gRPC, or wants TLS (--tls-ca)' : why}; ${advice}`,
      { cause: error },
    );
  }
  if (isGearError(error, 'deadline-exceeded')) {
    return new GearError('deadline-exceeded', `no answer from ${address} in time; ${advice}`, { cause: error });
  }
  if (isGearError(error, 'unsupported')) {
    return new GearError(
      'unsupported',
      `what listens at ${address} is no Gear manager, or one of another version; ${advice}`,
      { cause: error },
    );
  }
  return error;
}

/** Connects to the manager and does `work` with it; an unreachable manager is one clear line. */
export async function withManager<T>(
  address: string,
  access: Access,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  using connection = connect(address, '--manager', access);
  try {
    return await work(connection);
  } catch (error) {
    throw explain(error, connection.address);
  }
}
