import { chmod, rm } from 'node:fs/promises';
import Fastify from 'fastify';
import { metricsText } from './metrics.ts';
import type { NodeStatus } from './node-status.ts';

/** Where `gear status` asks, and a collector of metrics behind a proxy of its own: an HTTP socket, root's only. */
export const CONTROL_SOCKET = 'driver.sock';

/**
 * Answers `GET /status` and `GET /metrics` (Prometheus) at the socket. The caller holds the lock on the root, so a socket that is there already is a dead process's and is
 * replaced.
 */
export async function serveControl(socket: string, status: () => Promise<NodeStatus>): Promise<AsyncDisposable> {
  const server = Fastify({ logger: false });
  server.get('/status', async () => await status());
  server.get('/metrics', async (_request, reply) => {
    return await reply.type('text/plain; version=0.0.4; charset=utf-8').send(metricsText(await status()));
  });
  await rm(socket, { force: true });
  await server.listen({ path: socket });
  await chmod(socket, 0o600);
  return server;
}
