import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { GearError } from '#core/errors.ts';
import { lockFolder } from '#core/process-lock.ts';
import type { Layout } from './layout.ts';
import { libc } from './libc.ts';

/**
 * Makes sure that one manager at a time works in a root. The kernel ends the lock with the process, however that ends. It is a lock on a file, so that
 * it also holds between containers that share the folder. Throws failed-precondition, naming the other process.
 */
export async function lockRoot(layout: Layout): Promise<AsyncDisposable> {
  if (libc === undefined) return await lockFolder(layout.root, 'gear manager');
  const descriptor = openSync(layout.lock, 'a', 0o644);
  if (!libc.tryLock(descriptor)) {
    closeSync(descriptor);
    const holder = readFileSync(layout.lock, 'utf8').trim();
    throw new GearError(
      'failed-precondition',
      `another manager${/^[0-9]+$/.test(holder) ? ` (process ${holder})` : ''} works in ${layout.root}; stop it or give another --root`,
    );
  }
  ftruncateSync(descriptor);
  writeSync(descriptor, `${process.pid}\n`);
  return {
    [Symbol.asyncDispose]: async () => closeSync(descriptor),
  };
}
