import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, objectPath } from '#core/digest.ts';
import { silentLogger } from '#core/log.ts';
import { GrpcSource } from '../../driver/remote/grpc-source.ts';
import { NfsSource } from '../../driver/remote/nfs-source.ts';

// fetch-reader.ts grpc|nfs|disk ADDRESS|FOLDER FILE: reads the objects that FILE lists (lines "DIGEST SIZE"), as the driver fetches in bulk; prints bytes, wall
// and CPU seconds of this process as JSON.

const PIECE = 1024 * 1024;
const AT_ONCE = 16;

const [kind, where, file] = process.argv.slice(2) as [string, string, string];
const ranges = (await readFile(file, 'utf8'))
  .trim()
  .split('\n')
  .flatMap((line) => {
    const [digest, size] = line.split(' ') as [Digest, string];
    const pieces = Math.ceil(Number(size) / PIECE);
    return Array.from({ length: pieces }, (_, i) => ({
      digest,
      offset: i * PIECE,
      length: Math.min(PIECE, Number(size) - i * PIECE),
    }));
  });
const signal = AbortSignal.timeout(300_000);

async function open(): Promise<(range: (typeof ranges)[number]) => Promise<{ readonly length: number }>> {
  if (kind === 'disk') return async ({ digest }) => await readFile(join(where, objectPath(digest)));
  const source = kind === 'nfs' ? new NfsSource(where, silentLogger()) : new GrpcSource(where);
  if (source instanceof NfsSource) await source.connected(signal);
  return async ({ digest, offset, length }) => await source.read(digest, offset, length, { signal });
}

const read = await open();
const wanted = kind === 'disk' ? ranges.filter(({ offset }) => offset === 0) : ranges;
const began = performance.now();
const before = process.cpuUsage();
let next = 0;
let bytes = 0;
const work = async () => {
  for (;;) {
    const range = wanted[next++];
    if (range === undefined) return;
    const { length } = await read(range);
    bytes += length;
  }
};
await Promise.all(Array.from({ length: AT_ONCE }, work));
const { user, system } = process.cpuUsage(before);
console.log(JSON.stringify({ bytes, seconds: (performance.now() - began) / 1000, cpu: (user + system) / 1e6 }));
process.exit(0);
