import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { digestOf, digestToBytes, ociDigest } from '#core/digest.ts';
import { type Connection, connect } from '#core/grpc/client.ts';
import { MonitorService } from '#proto/gen/gear/v1/monitor.ts';
import { upload, uploadOf } from '../../manager/testing.ts';
import { startManager } from '../support/gear.ts';

const NODES = 1_000;
const IMAGES = 25;
const CHUNK = 128 * 1024;
const timeout = 60_000;

async function peakMemory(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}

it('takes the reports of a thousand nodes at once, each over a connection of its own, in bounded memory', async () => {
  await using stack = new AsyncDisposableStack();
  const manager = stack.use(await startManager());
  const objects = Array.from({ length: 3 }, () => randomBytes(2 * CHUNK));
  const store = stack.use(connect(manager.address));
  await upload(store, uploadOf(objects));
  const images = Array.from({ length: IMAGES }, (_, i) => ociDigest(digestOf(Buffer.from(`image ${i}`))));
  const known = objects.flatMap((bytes) =>
    [0, 1].map((chunk) => ({ digest: digestToBytes(digestOf(bytes)), chunk, milliseconds: 1 })),
  );
  // As large as reports get, of what is not there.
  const stuffing = Array.from({ length: 2_000 - known.length }, () => ({
    ...{ digest: randomBytes(32), chunk: 0, milliseconds: 5 },
  }));
  const nodes = Array.from({ length: NODES }, () => stack.use(connect(manager.monitor, 'monitor')));
  const listOnce = async (connection: Connection) => await connection.unary(MonitorService.listNodes, {}, { timeout });
  await Promise.all(nodes.map(listOnce));
  const before = await peakMemory(manager.process.pid);
  const report = async (connection: Connection, i: number) => {
    const touches = i % 4 === 0 ? [...known, ...stuffing] : known;
    const image = images[i % IMAGES] as string;
    const request = { node: `node ${i}`, image, chunkSize: CHUNK, touches, first: true, complete: true };
    await connection.unary(MonitorService.reportTouches, request, { timeout });
  };
  await Promise.all(nodes.map(report));
  expect((await peakMemory(manager.process.pid)) - before).toBeLessThan(300 * 1024 * 1024);

  const [asking] = nodes;
  if (asking === undefined) throw new Error('no node');
  const profiles = async () =>
    await Promise.all(
      images.map(async (image) => await asking.unary(MonitorService.getProfile, { image }, { timeout })),
    );
  for (const { runs, items } of await profiles()) {
    expect(runs).toBe(NODES / IMAGES);
    expect(items.map(({ chosen }) => chosen)).toEqual(known.map(() => true));
  }
  // What was said to be taken in is on the disk soon after.
  await until('the profiles to be written', async () =>
    (await profiles()).every(({ preparedBytes }) => preparedBytes > 0n),
  );
  await manager.kill();
  await manager.start();
  for (const { items } of await profiles()) expect(items).toHaveLength(known.length);
});
