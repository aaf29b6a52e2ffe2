import { chmod, lstat, mkdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { GearError, isErrno, orUndefined } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { SnapshotsService } from '#proto/gen/containerd/services/snapshots/v1/snapshots.ts';
import { snapshotsService } from './service.ts';
import type { Snapshotter } from './snapshotter.ts';

/** sun_path of linux/un.h, with its NUL. */
const MAX_PATH = 107;
/** containerd's own limit for its messages (defaults.DefaultMaxRecvMsgSize). */
const MAX_MESSAGE = 16 << 20;

/**
 * Serves a snapshotter at a unix socket that only root may use; makes its folder where it is missing. Throws already-exists where somebody else serves
 * there. When it is disposed calls under way may finish.
 */
export async function serveSnapshotter(
  socket: string,
  snapshotter: Snapshotter,
  log: Logger,
): Promise<AsyncDisposable> {
  if (Buffer.byteLength(socket) > MAX_PATH) {
    throw new GearError('invalid-argument', `a socket's path has at most ${MAX_PATH} bytes: ${socket}`);
  }
  await mkdir(dirname(socket), { recursive: true, mode: 0o711 });
  await clear(socket);
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE,
    'grpc.max_send_message_length': MAX_MESSAGE,
  });
  server.addService(SnapshotsService, snapshotsService(snapshotter, log));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
    if (error === null) resolve();
    else reject(new GearError('failed-precondition', `cannot listen at ${socket}: ${error.message}`, { cause: error }));
  });
  await promise;
  await chmod(socket, 0o600);
  return {
    [Symbol.asyncDispose]: async () => {
      const timer = setTimeout(() => server.forceShutdown(), 5000);
      const { promise: ended, resolve: over } = Promise.withResolvers<void>();
      server.tryShutdown(() => over());
      await ended;
      clearTimeout(timer);
      await rm(socket, { force: true });
    },
  };
}

/** Removes a socket at which nobody listens any more. */
async function clear(path: string): Promise<void> {
  const stats = await orUndefined(lstat(path), 'ENOENT');
  if (stats === undefined) return;
  if (!stats.isSocket() || (await isServed(path))) {
    const what = stats.isSocket() ? 'is in use; stop the process that serves it' : 'is no socket; move it away';
    throw new GearError('already-exists', `${path} ${what} or give another --containerd-socket`);
  }
  await rm(path, { force: true });
}

async function isServed(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once('connect', () => resolve(true));
  socket.once('error', (error) => resolve(!isErrno(error, 'ECONNREFUSED', 'ENOENT')));
  const served = await promise;
  socket.destroy();
  return served;
}
