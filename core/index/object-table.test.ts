import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { type Digest, digestOf } from '../digest.ts';
import { type ObjectFacts, ObjectTable, writeObjectTable } from './object-table.ts';

const CHUNK = 4096;

function someObjects(count: number): Map<Digest, ObjectFacts> {
  const objects = new Map<Digest, ObjectFacts>();
  for (let i = 0; i < count; i++) {
    const size = i % 3 === 0 ? 1 + i : CHUNK * (i + 1) - 7;
    const chunks = size > CHUNK ? Math.ceil(size / CHUNK) : 0;
    objects.set(digestOf(Buffer.from(`object ${i}`)), { size, chunkDigests: randomBytes(chunks * 32) });
  }
  return objects;
}

test('every object is found with its size and chunks, others are not', () => {
  const objects = someObjects(700);
  const table = new ObjectTable(writeObjectTable(objects, { slot: 7, chunkSize: CHUNK }), 'test');
  expect([table.slot, table.chunkSize, table.count]).toEqual([7, CHUNK, 700]);
  expect(table.totalBytes).toBe([...objects.values()].reduce((sum, { size }) => sum + size, 0));
  for (const [digest, facts] of objects) {
    const row = table.find(digest) as number;
    expect(table.row(row)).toEqual({ digest, ...facts });
    const last = table.chunkCount(row) - 1;
    const expected = facts.chunkDigests.length === 0 ? Buffer.from(digest, 'hex') : facts.chunkDigests.subarray(-32);
    expect(table.chunkDigest(row, last)).toEqual(expected);
    expect(() => table.chunkDigest(row, last + 1)).toThrow(/no chunk/);
  }
  expect(table.find(digestOf(Buffer.from('another')))).toBeUndefined();
});

test('rows are in order of their digests, and the ranges of the prefixes cover them all', () => {
  const table = new ObjectTable(writeObjectTable(someObjects(300), { slot: 1, chunkSize: CHUNK }), 'test');
  const digests = [...table.rows()].map(({ digest }) => digest);
  expect(digests).toEqual(digests.toSorted());
  let next = 0;
  for (let prefix = 0; prefix < 256; prefix++) {
    const [start, end] = table.prefixRange(prefix);
    expect(start).toBe(next);
    for (let row = start; row < end; row++) expect(Number.parseInt(table.digest(row).slice(0, 2), 16)).toBe(prefix);
    next = end;
  }
  expect(next).toBe(300);
});

test('an empty table, and sizes beyond 4 GiB', () => {
  expect(new ObjectTable(writeObjectTable(new Map(), { slot: 1, chunkSize: CHUNK }), 'test').count).toBe(0);
  const size = 5 * 2 ** 30 + 3;
  const chunkSize = 2 ** 31;
  const digest = digestOf(Buffer.from('big'));
  const bytes = writeObjectTable(new Map([[digest, { size, chunkDigests: randomBytes(96) }]]), { slot: 1, chunkSize });
  const table = new ObjectTable(bytes, 'test');
  expect(table.size(0)).toBe(size);
  expect(table.totalBytes).toBe(size);
});

test('the bytes of a table of one object', () => {
  const digest = 'aa'.repeat(32) as Digest;
  const table = writeObjectTable(new Map([[digest, { size: 5, chunkDigests: Buffer.alloc(0) }]]), {
    slot: 3,
    chunkSize: 131072,
  });
  expect(table.toString('hex')).toBe(
    `474541524f424a53${'01000000'}${'03000000'}${'00000200'}${'01000000'}${'0500000000000000'}${'7000000000000000'}${'00'.repeat(24)}` +
      `${'aa'.repeat(32)}${'0500000000000000'}${'0000000000000000'}`,
  );
});

test('damage and nonsense are refused', () => {
  const good = writeObjectTable(someObjects(9), { slot: 1, chunkSize: CHUNK });
  expect(() => new ObjectTable(good.subarray(0, -1), 'x')).toThrow(/x: .*header says otherwise/);
  expect(() => new ObjectTable(Buffer.from('nothing'), 'x')).toThrow(/not an object table/);
  for (const [offset, value] of [
    [0, 0],
    [8, 9],
    [12, 0],
    [20, 8],
    [64, 0xff],
    [64 + 39, 0xee],
    [64 + 40, 1],
  ] as const) {
    const bad = Buffer.from(good);
    bad[offset] = value;
    if (bad.equals(good)) continue;
    expect(() => new ObjectTable(bad, 'x'), `byte ${offset}`).toThrow(/object table x/);
  }
  const facts = new Map([[digestOf(Buffer.from('a')), { size: CHUNK + 1, chunkDigests: Buffer.alloc(32) }]]);
  expect(() => writeObjectTable(facts, { slot: 1, chunkSize: CHUNK })).toThrow(/cannot have 1 chunk/);
  expect(() => writeObjectTable(new Map(), { slot: 0, chunkSize: CHUNK })).toThrow(/slot/);
});
