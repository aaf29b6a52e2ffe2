import { describe, expect, it } from 'vitest';
import { sleep } from '#core/abort.ts';
import { digestOf } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { ManagerSource } from './manager-source.ts';
import type { SourceState } from './source.ts';

const DIGEST = digestOf(Buffer.from('x'));
const BYTES = 100_000;

/** A way that answers after `delay` milliseconds, or fails, or never answers. */
function way(name: string, delay: number) {
  const made = {
    name,
    delay,
    asked: 0,
    failure: undefined as GearError | undefined,
    state: { kind: 'trusted', reason: '' } as SourceState,
    doubts: [] as string[],
    get ready() {
      return made.state.kind === 'trusted';
    },
    connected: async () => {
      if (!made.ready) throw new GearError('unavailable', 'away');
    },
    distrust: (reason: string) => void made.doubts.push(reason),
    read: async (_digest: string, _offset: number, length: number, { signal }: { signal: AbortSignal }) => {
      made.asked++;
      if (made.failure !== undefined) throw made.failure;
      await sleep(made.delay, { signal });
      return Buffer.alloc(length);
    },
    [Symbol.dispose]: () => {},
  };
  return made;
}

const read = async (source: ManagerSource) =>
  await source.read(DIGEST, 0, BYTES, { signal: AbortSignal.timeout(5_000) });

describe('the ways to the manager', () => {
  it.each([
    ['grpc', 0, 10],
    ['nfs', 10, 0],
  ] as const)('takes the one that was chosen: %s', async (choice, nfsReads, grpcReads) => {
    const [grpc, nfs] = [way('grpc', 0), way('nfs', 0)];
    const source = new ManagerSource({ grpc, nfs, choice });
    for (let i = 0; i < 10; i++) await read(source);
    expect([nfs.asked, grpc.asked]).toEqual([nfsReads, grpcReads]);
  });

  it.each([
    ['grpc', 1, 40],
    ['nfs', 40, 1],
  ] as const)('finds out which is faster: %s', async (faster, grpcDelay, nfsDelay) => {
    const [grpc, nfs] = [way('grpc', grpcDelay), way('nfs', nfsDelay)];
    const source = new ManagerSource({ grpc, nfs, choice: 'auto' });
    if (faster === 'nfs') [grpc.delay, nfs.delay] = [40, 1];
    for (let i = 0; i < 70; i++) await read(source);
    expect(source.stats().preferred).toBe(faster);
    const other = faster === 'nfs' ? grpc : nfs;
    const before = other.asked;
    for (let i = 0; i < 64; i++) await read(source);
    // It is still tried now and then.
    expect(other.asked - before).toBe(2);
  });

  it('falls back at once, also from what the other does not have', async () => {
    const [grpc, nfs] = [way('grpc', 0), way('nfs', 0)];
    const source = new ManagerSource({ grpc, nfs, choice: 'nfs' });
    for (const code of ['unavailable', 'not-found', 'internal'] as const) {
      nfs.failure = new GearError(code, 'no');
      expect((await read(source)).length).toBe(BYTES);
    }
    expect(source.stats().sources.find(({ kind }) => kind === 'nfs')).toMatchObject({ failures: 3 });
    grpc.failure = new GearError('not-found', 'not in the store');
    await expect(read(source)).rejects.toMatchObject({ code: 'not-found' });
    grpc.failure = new GearError('unavailable', 'away');
    await expect(read(source)).rejects.toThrow(/away; no/);
  });

  it('waits for a silent server once, and for nobody else meanwhile', async () => {
    const [grpc, nfs] = [way('grpc', 0), way('nfs', 60_000)];
    const source = new ManagerSource({ grpc, nfs, choice: 'nfs' });
    const began = performance.now();
    for (let i = 0; i < 20; i++) await read(source);
    expect(performance.now() - began).toBeLessThan(2_000);
    expect(nfs.asked).toBe(1);
  });

  it('blames the way that bytes came', async () => {
    const [grpc, nfs] = [way('grpc', 0), way('nfs', 0)];
    const source = new ManagerSource({ grpc, nfs, choice: 'nfs' });
    const bytes = await read(source);
    nfs.state = { kind: 'away', reason: 'gone' };
    source.doubt(await read(source), 'by gRPC');
    expect(nfs.doubts).toEqual([]);
    source.doubt(bytes, 'by NFS');
    expect(nfs.doubts).toEqual(['by NFS']);
    expect(source.stats().preferred).toBe('grpc');
  });

  it('ends with the reader', async () => {
    const source = new ManagerSource({ grpc: way('grpc', 60_000), nfs: way('nfs', 60_000), choice: 'nfs' });
    const stop = new AbortController();
    const reading = source.read(DIGEST, 0, BYTES, { signal: stop.signal });
    stop.abort(new GearError('cancelled', 'not wanted any more'));
    await expect(reading).rejects.toThrow('not wanted any more');
  });
});
