import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import Fastify, { type FastifyInstance } from 'fastify';
import { GearError, isErrno } from '#core/errors.ts';
import { formatHostPort, parseHostPort } from '#core/grpc/address.ts';
import type { Logger } from '#core/log.ts';
import type { PluginBackend } from './backend.ts';
import { registerCalls } from './calls.ts';
import { errorResponse } from './exchange.ts';
import { writeSpecFile } from './spec-file.ts';
import { listenAtSocket } from './unix-socket.ts';
import { CONTENT_TYPE } from './wire.ts';

/** JSON bodies (not layers) are at most this long (bytes). */
const BODY_LIMIT = 4 * 1024 * 1024;
/** How long (ms) calls may go on when the server closes. */
const GRACE = 10_000;

/** Where a plugin listens. */
export type PluginAddress =
  | { readonly kind: 'unix'; readonly path: string }
  /** "HOST:PORT" (port 0: any); Docker finds it by a spec file in `specFolder`. Whoever reaches it is root on this machine. */
  | { readonly kind: 'tcp'; readonly address: string; readonly specFolder: string };

export interface ServePluginOptions extends PluginBackend {
  /** What `dockerd -s` is told. */
  readonly name: string;
  readonly listen: PluginAddress;
  readonly log: Logger;
}

export interface PluginServer extends AsyncDisposable {
  /** "unix:///run/docker/plugins/gear.sock", "tcp://127.0.0.1:4321". */
  readonly address: string;
}

/**
 * Serves a graphdriver to Docker's plugin protocol until it is disposed; then no new call is taken, running ones have ten seconds, and the
 * socket or spec file is removed. Throws already-exists where the socket is in use.
 */
export async function servePlugin(options: ServePluginOptions): Promise<PluginServer> {
  await using stack = new AsyncDisposableStack();
  const log = options.log.child({ component: 'graphdriver' });
  const stopping = new AbortController();
  const http = createServer({ keepAliveTimeout: 0, requestTimeout: 0 });
  const app = buildApp(http);
  registerCalls(app, { backend: options, log, stopping: stopping.signal });
  await app.ready();
  stack.defer(() => close(app, http, stopping));
  const { listen } = options;
  let address: string;
  if (listen.kind === 'unix') {
    await listenAtSocket(http, listen.path);
    address = `unix://${listen.path}`;
  } else {
    address = `tcp://${await listenAtPort(http, listen.address)}`;
    stack.use(await writeSpecFile(listen.specFolder, options.name, address));
  }
  http.on('error', (err) => log.error({ err }, 'server error'));
  log.debug({ address }, 'listening');
  const release = stack.move();
  return { address, [Symbol.asyncDispose]: () => release.disposeAsync() };
}

function buildApp(http: Server): FastifyInstance {
  const app = Fastify({
    logger: false,
    bodyLimit: BODY_LIMIT,
    serverFactory: (handler) => http.on('request', handler),
  });
  // Docker sends JSON under several names, and under none.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  // Whatever it is called, also what is no media type at all.
  app.addHook('onRequest', async (request) => {
    delete request.raw.headers['content-type'];
  });
  app.setErrorHandler((error, _request, reply) => {
    const status = (error as { statusCode?: number }).statusCode ?? 500;
    void reply
      .code(status)
      .header('content-type', CONTENT_TYPE)
      .send(JSON.stringify(errorResponse(error)));
  });
  app.setNotFoundHandler((request, reply) => {
    const error = new GearError('unsupported', `${request.method} ${request.url} is no call of this plugin`);
    void reply
      .code(404)
      .header('content-type', CONTENT_TYPE)
      .send(JSON.stringify(errorResponse(error)));
  });
  return app;
}

async function listenAtPort(http: Server, address: string): Promise<string> {
  const { host, port } = parseHostPort(address, 'the address of the plugin');
  http.listen({ host, port });
  try {
    // Rejects with what listen() failed with.
    await once(http, 'listening');
  } catch (error) {
    if (!isErrno(error, 'EADDRINUSE')) throw error;
    throw new GearError('already-exists', `the plugin's address ${address} is already in use`, { cause: error });
  }
  const bound = http.address();
  if (bound === null || typeof bound === 'string') throw new GearError('internal', `${address} is not bound`);
  return formatHostPort({ host, port: bound.port });
}

async function close(app: FastifyInstance, http: Server, stopping: AbortController): Promise<void> {
  const closed = http.listening ? once(http, 'close') : undefined;
  const timer = setTimeout(() => {
    stopping.abort(new GearError('unavailable', 'the driver is stopping'));
    http.closeAllConnections();
  }, GRACE);
  // A connection whose last call has just ended is idle, too.
  const sweep = setInterval(() => http.closeIdleConnections(), 50);
  try {
    http.close();
    await app.close();
    await closed;
  } finally {
    clearTimeout(timer);
    clearInterval(sweep);
  }
}
