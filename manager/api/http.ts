import fastify, { type FastifyInstance } from 'fastify';
import { messageOf } from '#core/errors.ts';
import { formatHostPort, parseHostPort } from '#core/grpc/address.ts';
import { VERSION } from '#core/version.ts';
import type { Guard } from '../security/guard.ts';
import { guardHttp, httpsOptions } from '../security/http-guard.ts';
import { cannotListen } from './grpc-server.ts';
import type { Metrics } from './metrics.ts';

export interface HttpParts {
  readonly guard: Guard;
  readonly metrics: Metrics;
  /** Throws when the store cannot take anything. */
  readonly checkStore: () => Promise<void>;
  /** Whether the manager is about to stop. */
  readonly stopping: () => boolean;
}

/** GET /healthz (200, or 503 and why not) and GET /metrics (Prometheus). */
export function createHttp({ guard, metrics, checkStore, stopping }: HttpParts): FastifyInstance {
  const app: FastifyInstance = fastify({ logger: false, forceCloseConnections: 'idle', ...httpsOptions(guard) });
  guardHttp(app, guard);
  app.get('/healthz', async (_request, reply) => {
    reply.header('cache-control', 'no-store');
    try {
      if (stopping()) return reply.code(503).send({ status: 'stopping', version: VERSION });
      await checkStore();
      return { status: 'ok', version: VERSION };
    } catch (error) {
      return reply.code(503).send({ status: 'failed', version: VERSION, error: messageOf(error) });
    }
  });
  app.get('/metrics', (_request, reply) => {
    return reply.type('text/plain; version=0.0.4; charset=utf-8').send(metrics.render());
  });
  return app;
}

/** Listens at `address`; gives "HOST:PORT" with the port that it really got. */
export async function listenHttp(app: FastifyInstance, address: string): Promise<string> {
  const { host, port } = parseHostPort(address, '--http-listen');
  try {
    await app.listen({ host, port });
  } catch (error) {
    throw cannotListen(address, '--http-listen', error);
  }
  const bound = app.server.address();
  return formatHostPort({ host, port: typeof bound === 'object' && bound !== null ? bound.port : port });
}
