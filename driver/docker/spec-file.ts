import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from '#core/atomic-file.ts';
import { orUndefined } from '#core/errors.ts';

/**
 * Tells Docker where a plugin that listens on TCP is: `<folder>/<name>.spec` with "tcp://HOST:PORT" (Docker looks in /etc/docker/plugins and
 * /usr/lib/docker/plugins). Disposing removes the file, unless another process has put its own address there.
 */
export async function writeSpecFile(folder: string, name: string, address: string): Promise<AsyncDisposable> {
  const path = join(folder, `${name}.spec`);
  await writeAtomically(path, address, { flush: false });
  return {
    [Symbol.asyncDispose]: async () => {
      if ((await orUndefined(readFile(path, 'utf8'), 'ENOENT')) === address) await rm(path, { force: true });
    },
  };
}
