import { lstat, mkdir, rm } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { GearError, isErrno, orUndefined } from '#core/errors.ts';

/** sun_path of linux/un.h, with its NUL. */
const MAX_PATH = 107;

/** Whether somebody accepts connections at a socket's path. */
async function isListening(path: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once('connect', () => resolve(true));
  socket.once('error', (error) => {
    if (isErrno(error, 'ECONNREFUSED', 'ENOENT')) resolve(false);
    // Its queue is full, so it is alive.
    else if (isErrno(error, 'EAGAIN')) resolve(true);
    else reject(error);
  });
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}

/** Makes way for a new socket: removes one that nobody listens at any more. Throws already-exists where somebody does, or where it is no socket. */
async function clearSocket(path: string): Promise<void> {
  const stats = await orUndefined(lstat(path), 'ENOENT');
  if (stats === undefined) return;
  if (!stats.isSocket()) {
    throw new GearError('already-exists', `${path} is there and no socket; move it away or choose another path`);
  }
  if (await isListening(path)) {
    throw new GearError(
      'already-exists',
      `the socket ${path} is already in use; stop the process that serves it or choose another path`,
    );
  }
  await rm(path, { force: true });
}

/**
 * Listens at a unix socket that only its owner may use (0600); makes its folder where it is missing. Node removes the socket when the server closes.
 * Throws already-exists, and invalid-argument for a path that is too long.
 */
export async function listenAtSocket(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH) {
    throw new GearError('invalid-argument', `a socket's path has at most ${MAX_PATH} bytes: ${path}`);
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await clearSocket(path);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('listening', resolve);
  server.once('error', reject);
  // bind(2) happens within listen(), so there is no moment in which others could connect.
  const umask = process.umask(0o177);
  try {
    server.listen(path);
  } finally {
    process.umask(umask);
  }
  try {
    await promise;
  } catch (error) {
    if (isErrno(error, 'EADDRINUSE')) {
      throw new GearError('already-exists', `the socket ${path} is already in use`, { cause: error });
    }
    throw error;
  } finally {
    server.off('listening', resolve);
    server.off('error', reject);
  }
}
