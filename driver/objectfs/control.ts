import { rmSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { orAbort } from '#core/abort.ts';
import { type ErrorCode, GearError, isErrno, isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { readLines } from './lines.ts';

/** struct sockaddr_un has room for this many bytes. */
const MAX_PATH = 107;

interface Reply {
  readonly result?: unknown;
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

/** What the server process does for whoever connects to its socket, by name. */
export type ControlMethods = Readonly<Record<string, (params: unknown) => unknown>>;

/** Throws invalid-argument for a socket's path that the kernel could not take. */
export function checkSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= MAX_PATH) return;
  throw new GearError('invalid-argument', `${path} is too long for a socket; choose a shorter --root`);
}

/** Answers calls on a unix socket, one JSON line each way. Takes the place of a socket that a dead process left. */
export async function serveControl(path: string, methods: ControlMethods, log: Logger): Promise<AsyncDisposable> {
  rmSync(path, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket
      .on('close', () => sockets.delete(socket))
      .on('error', (err) => log.debug({ err }, 'control connection broke'));
    readLines(socket, (line) => {
      void answer(methods, line).then((reply) => socket.write(`${JSON.stringify(reply)}\n`));
    });
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // bind(2) happens within listen(), so there is no moment in which others could connect.
  const umask = process.umask(0o177);
  try {
    server.once('error', reject).listen(path, resolve);
  } finally {
    process.umask(umask);
  }
  await promise;
  return {
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroySoon();
      const { promise: closed, resolve: done } = Promise.withResolvers<void>();
      server.close(() => done());
      await closed;
    },
  };
}

async function answer(methods: ControlMethods, line: string): Promise<Reply> {
  try {
    const { method, params } = JSON.parse(line) as { method: string; params?: unknown };
    const handler = Object.hasOwn(methods, method) ? methods[method] : undefined;
    if (handler === undefined) throw new GearError('unsupported', `the object filesystem knows no method ${method}`);
    return { result: (await handler(params)) ?? null };
  } catch (error) {
    return { error: { code: isGearError(error) ? error.code : 'internal', message: messageOf(error) } };
  }
}

/** One call. Throws unavailable where nobody listens or the connection ends early, else what the other side threw. */
export async function callControl(
  path: string,
  method: string,
  params: unknown,
  { signal }: { readonly signal: AbortSignal },
): Promise<unknown> {
  signal.throwIfAborted();
  const socket = createConnection({ path });
  using stack = new DisposableStack();
  stack.defer(() => socket.destroy());
  const { promise, resolve, reject } = Promise.withResolvers<Reply>();
  const unavailable = (error?: unknown) =>
    reject(
      isErrno(error, 'EACCES', 'EPERM')
        ? error
        : new GearError('unavailable', `the object filesystem does not answer at ${path}`, { cause: error }),
    );
  socket.on('error', unavailable).on('close', () => unavailable());
  readLines(socket, (line) => {
    try {
      resolve(JSON.parse(line) as Reply);
    } catch (error) {
      reject(error);
    }
  });
  socket.write(`${JSON.stringify({ method, params })}\n`);
  const { result, error } = await orAbort(promise, signal);
  if (error !== undefined) throw new GearError(error.code, error.message);
  return result;
}
