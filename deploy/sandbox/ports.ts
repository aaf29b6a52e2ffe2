import { createServer } from 'node:net';

/** A TCP port of 127.0.0.1 that nobody listens on at the moment. Where a program takes port 0, prefer that. */
export async function freePort(): Promise<number> {
  const server = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject).listen({ host: '127.0.0.1', port: 0 }, resolve);
  await promise;
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  await new Promise((closed) => server.close(closed));
  return address.port;
}
