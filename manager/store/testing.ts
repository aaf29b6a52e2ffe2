import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { type Digest, digestOf } from '#core/digest.ts';
import { FilesystemObjectStore } from './filesystem.ts';
import { openFlusher } from './flush.ts';
import { Layout } from './layout.ts';
import { Leases } from './leases.ts';

/** For tests: an object store in a folder of its own, which goes with it. */
export async function temporaryStore(grace = 60_000) {
  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp('/tmp/gear-');
  stack.defer(async () => await rm(root, { recursive: true, force: true }));
  const layout = new Layout(root);
  layout.prepare();
  const leases = new Leases(grace, 1);
  const flusher = stack.use(openFlusher(root));
  const objects = new FilesystemObjectStore(layout, leases, flusher);
  const resources = stack.move();
  return {
    root,
    layout,
    leases,
    flusher,
    store: objects,
    objects,
    [Symbol.asyncDispose]: async () => await resources.disposeAsync(),
  };
}

/** For tests: random bytes and their digest. */
export function randomObject(size: number): { bytes: Buffer; digest: Digest } {
  const bytes = randomBytes(size);
  return { bytes, digest: digestOf(bytes) };
}

/** For tests: bytes in pieces of a size. */
export async function* piecesOf(bytes: Buffer, size = 10_000): AsyncGenerator<Buffer, void, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** For tests: everything that a stream gives, in one piece. */
export async function collect(source: AsyncIterable<Buffer>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(source));
}

/** For tests: what lies below tmp/. */
export async function temporaryFiles(layout: Layout): Promise<string[]> {
  return await readdir(layout.tmp, { recursive: true });
}
