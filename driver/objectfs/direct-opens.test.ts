import { appendFile, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { silentLogger } from '#core/log.ts';
import { type BackingDevice, DirectOpens } from './direct-opens.ts';
import { makeNode, NODE_KIND, nodeKind, nodeNumber } from './node-id.ts';
import { parseRecord } from './open-record.ts';

class Device implements BackingDevice {
  readonly open_ = new Set<number>();
  #next = 1;

  open(): number {
    this.open_.add(this.#next);
    return this.#next++;
  }

  close(id: number): void {
    if (!this.open_.delete(id)) throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' });
  }
}

const node = makeNode(3, NODE_KIND.direct, 9);
const handle = (low: number) => ({ high: 0, low });

async function setUp() {
  const folder = await mkdtemp(join(tmpdir(), 'gear-do-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'object');
  await writeFile(file, 'bytes');
  const device = new Device();
  const record = join(folder, 'opens');
  return { device, file, record, start: () => new DirectOpens(device, record, silentLogger()) };
}

test('node ids say what they stand for, also of the largest numbers', () => {
  const largest = makeNode(0xffff_fffe, NODE_KIND.direct, 2 ** 30 - 1);
  expect(largest).toEqual({ high: 0xffff_fffe, low: 0xffff_ffff });
  expect([nodeKind(largest), nodeNumber(largest)]).toEqual([NODE_KIND.direct, 2 ** 30 - 1]);
  expect(makeNode(1, NODE_KIND.prefix, 0xaa)).toEqual({ high: 1, low: 0x4000_00aa });
  expect(nodeKind(makeNode(1, NODE_KIND.cached, 5))).toBe(NODE_KIND.cached);
});

test('all opens of a node share a backing id, which is given back after the last of them', async () => {
  const { device, file, start } = await setUp();
  const opens = start();
  expect(opens.join(node, handle(2))).toBeUndefined();
  expect(opens.open(node, handle(2), file)).toBe(1);
  expect(opens.join(node, handle(4))).toBe(1);
  expect(opens.open(node, handle(6), file)).toBe(1);
  expect(opens.open(makeNode(3, NODE_KIND.direct, 10), handle(8), file)).toBe(2);
  expect(opens.size).toBe(4);
  for (const low of [2, 2, 4, 99]) opens.release(node, handle(low));
  expect(device.open_.has(1)).toBe(true);
  opens.release(node, handle(6));
  expect([...device.open_]).toEqual([2]);
  expect(opens.open(node, handle(10), file)).toBe(3);
});

test('another process knows what is open, and a request that comes again is no second open', async () => {
  const { device, file, record, start } = await setUp();
  const first = start();
  first.open(node, handle(2), file);
  first.open(node, handle(4), file);
  first.release(node, handle(2));
  // Killed, with a row half written.
  first.close();
  await appendFile(record, Buffer.alloc(7, 1));
  const second = start();
  expect(second.size).toBe(1);
  expect(second.open(node, handle(4), '/nowhere')).toBe(1);
  expect(second.join(node, handle(6))).toBe(1);
  expect(second.size).toBe(2);
  second.close();
  const third = start();
  third.release(node, handle(4));
  third.release(node, handle(6));
  expect([third.size, device.open_.size]).toEqual([0, 0]);
});

test('an open that fails leaves nothing behind', async () => {
  const { device, start } = await setUp();
  const opens = start();
  expect(() => opens.open(node, handle(2), '/nowhere')).toThrow('ENOENT');
  expect([opens.size, device.open_.size]).toEqual([0, 0]);
});

test('the record is made short again', async () => {
  const { file, record, start } = await setUp();
  const opens = start();
  opens.open(node, handle(1), file);
  for (let low = 2; low < 2500; low++) {
    opens.open(makeNode(4, NODE_KIND.direct, low), handle(low), file);
    opens.release(makeNode(4, NODE_KIND.direct, low), handle(low));
  }
  opens.compact();
  expect((await stat(record)).size).toBe(32);
  opens.open(node, handle(3), file);
  opens.close();
  expect(start().size).toBe(2);
});

test('the bytes of a record', () => {
  const opened = `0100000005000000090000c0030000000200000000000000${'00'.repeat(8)}`;
  expect(parseRecord(Buffer.from(`${opened}0200`, 'hex'))).toEqual([
    { type: 'opened', node, handle: handle(2), backingId: 5 },
  ]);
});
