import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { createServer } from 'node:net';
import { GearError, isErrno } from './errors.ts';

/**
 * Makes sure that one process at a time works in a folder: a socket in the abstract namespace, named after the folder, which the kernel
 * takes away with the process however that ends. Throws failed-precondition when another process holds it. `what` names the program.
 */
export async function lockFolder(folder: string, what: string): Promise<AsyncDisposable> {
  const real = await realpath(folder);
  const name = `\0gear/${what}/${createHash('sha256').update(real).digest('hex')}`;
  const server = createServer((socket) => socket.destroy());
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject).listen({ path: name }, resolve);
  try {
    await promise;
  } catch (error) {
    if (!isErrno(error, 'EADDRINUSE')) throw error;
    throw new GearError('failed-precondition', `another ${what} works in ${real}; stop it or give another --root`, {
      cause: error,
    });
  }
  server.unref();
  return {
    [Symbol.asyncDispose]: async () => {
      const { promise: closed, resolve: done } = Promise.withResolvers<void>();
      server.close(() => done());
      await closed;
    },
  };
}
