import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { GearError } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { PluginBackend } from './backend.ts';
import type { CreateOptions, Driver } from './driver.ts';
import { DriverError } from './errors.ts';
import { clientSignal, errorResponse, ifUnheard, sendStream } from './exchange.ts';
import { checkId, checkParent } from './ids.ts';
import { Repeats } from './repeats.ts';
import * as wire from './wire.ts';

export interface CallsContext {
  readonly backend: PluginBackend;
  readonly log: Logger;
  /** Aborts when the server has waited long enough for what is still running. */
  readonly stopping: AbortSignal;
}

/** One call, with what its client may need. */
interface Exchange {
  readonly json: ReturnType<typeof wire.parseBody>;
  readonly query: Readonly<Record<string, string | undefined>>;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly signal: AbortSignal;
}

type Handler = (driver: Driver, exchange: Exchange) => Promise<wire.PluginResponse>;

/** Gives every call of the protocol its route. Each only translates. */
export function registerCalls(server: FastifyInstance, { backend, log, stopping }: CallsContext): void {
  const repeats = new Repeats();

  const driverOrThrow = (call: string): Driver => {
    const driver = backend.current();
    if (driver !== undefined) return driver;
    throw new DriverError('not-initialized', `GraphDriver.${call} came before GraphDriver.Init; restart dockerd`);
  };

  const exchangeOf = (call: string, request: FastifyRequest, reply: FastifyReply): Exchange => ({
    json: wire.parseBody(Buffer.isBuffer(request.body) ? request.body : undefined),
    query: request.query as Exchange['query'],
    request,
    reply,
    signal: clientSignal(reply.raw, `GraphDriver.${call}`, stopping),
  });

  const failed = (call: string, error: unknown): ReturnType<typeof errorResponse> => {
    log.warn({ err: error, call }, 'call failed');
    return errorResponse(error);
  };

  /** A call whose errors travel in an answer with status 200. */
  const on = (call: wire.Call, work: (exchange: Exchange) => Promise<wire.PluginResponse>) => {
    server.post(`/GraphDriver.${call}`, async (request, reply) => {
      const start = performance.now();
      reply.header('content-type', wire.CONTENT_TYPE);
      try {
        const answer = await work(exchangeOf(call, request, reply));
        log.debug({ call, ms: Math.round(performance.now() - start) }, 'call');
        return JSON.stringify(answer);
      } catch (error) {
        return JSON.stringify(failed(call, error));
      }
    });
  };
  const onDriver = (call: wire.Call, work: Handler) => {
    on(call, async (exchange) => await work(driverOrThrow(call), exchange));
  };

  server.post('/Plugin.Activate', async (_request, reply) => {
    reply.header('content-type', wire.CONTENT_TYPE);
    return JSON.stringify({ Implements: [wire.IMPLEMENTS] } satisfies wire.PluginResponse);
  });
  on('Init', async ({ json }) => {
    await backend.init(wire.parseInit(json));
    repeats.forgetAll();
    return {};
  });
  onDriver('Capabilities', async (driver) => ({
    Capabilities: { ReproducesExactDiffs: driver.capabilities?.reproducesExactDiffs ?? false },
  }));
  onDriver('Create', async (driver, exchange) => {
    await driver.create(...creation(exchange));
    return {};
  });
  onDriver('CreateReadWrite', async (driver, exchange) => {
    await driver.createReadWrite(...creation(exchange));
    return {};
  });
  onDriver('Remove', async (driver, { json, signal }) => {
    const id = idOf(json);
    await driver.remove(id, { signal });
    repeats.forget(id);
    return {};
  });
  onDriver('Get', async (driver, { json, signal, reply }) => {
    const id = idOf(json);
    const dir = await driver.get(id, wire.parseRequest(json).mountLabel, { signal });
    // The client will ask again, and would have to give back twice.
    ifUnheard(reply.raw, () => {
      driver.put(id).catch((err: unknown) => log.error({ err, id }, 'a Get that nobody heard of cannot be taken back'));
    });
    return { Dir: dir };
  });
  onDriver('Put', async (driver, { json, signal, reply }) => {
    const id = idOf(json);
    if (repeats.isPutDone(id)) return {};
    await driver.put(id, { signal });
    ifUnheard(reply.raw, () => repeats.putUnheard(id));
    return {};
  });
  onDriver('Exists', async (driver, { json }) => ({ Exists: await driver.exists(idOf(json)) }));
  onDriver('Status', async (driver) => ({ Status: await driver.status() }));
  onDriver('GetMetadata', async (driver, { json }) => ({ Metadata: await driver.getMetadata(idOf(json)) }));
  onDriver('Cleanup', async (driver) => {
    await driver.cleanup();
    return {};
  });
  onDriver('Changes', async (driver, { json, signal }) => {
    const changes = await driver.changes(idOf(json), parentOf(json), { signal });
    return { Changes: changes.map(wire.changeToWire) };
  });
  onDriver('DiffSize', async (driver, { json, signal }) => ({
    Size: await driver.diffSize(idOf(json), parentOf(json), { signal }),
  }));

  server.post('/GraphDriver.Diff', async (request, reply) => {
    reply.hijack();
    try {
      const { json, signal } = exchangeOf('Diff', request, reply);
      const stream = await driverOrThrow('Diff').diff(idOf(json), parentOf(json), { signal });
      await sendStream(reply.raw, stream, signal);
    } catch (error) {
      const answer = failed('Diff', error);
      if (reply.raw.headersSent || reply.raw.destroyed) return;
      reply.raw.writeHead(500, { 'content-type': wire.CONTENT_TYPE });
      reply.raw.end(JSON.stringify(answer));
    }
  });

  // Its body is the tar, of any length, so it must not be gathered first.
  server.register((scope, _options, registered) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null));
    scope.post('/GraphDriver.ApplyDiff', async (request, reply) => {
      reply.header('content-type', wire.CONTENT_TYPE);
      try {
        const { query, signal } = exchangeOf('ApplyDiff', request, reply);
        const driver = driverOrThrow('ApplyDiff');
        const id = checkId(query['id']);
        const parent = checkParent(query['parent']);
        repeats.checkApply(id);
        ifUnheard(reply.raw, () => repeats.applyBroken(id));
        // Destroying the request would break the connection, and with it the answer.
        const body = request.raw.iterator({ destroyOnReturn: false });
        const size = await driver.applyDiff(id, parent, bytesOf(body), { signal });
        return JSON.stringify({ Size: size } satisfies wire.PluginResponse);
      } catch (error) {
        return JSON.stringify(failed('ApplyDiff', error));
      } finally {
        // What a failed call left of the body: the client hears the answer only when it has sent everything.
        request.raw.resume();
      }
    });
    registered();
  });
}

async function* bytesOf(body: AsyncIterable<unknown>): AsyncGenerator<Buffer> {
  for await (const piece of body) {
    if (!Buffer.isBuffer(piece)) throw new GearError('internal', 'the body of ApplyDiff is not bytes');
    yield piece;
  }
}

function idOf(json: Exchange['json']): string {
  if (Object.keys(json).length === 0) {
    throw new DriverError(
      'interrupted',
      'the call came without arguments: Docker repeats a call whose connection broke, as it does when the driver is restarted, without its body; try again',
    );
  }
  return checkId(wire.parseRequest(json).id);
}

function parentOf(json: Exchange['json']): string {
  return checkParent(wire.parseRequest(json).parent);
}

function creation({ json, signal }: Exchange): [id: string, parent: string, options: CreateOptions] {
  const { mountLabel } = wire.parseRequest(json);
  return [idOf(json), parentOf(json), { mountLabel, storageOpt: wire.parseStorageOpt(json), signal }];
}
