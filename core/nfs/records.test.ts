import { expect, it } from 'vitest';
import { RecordReader } from './records.ts';

function reader(): { push: (hex: string) => void; records: string[] } {
  const records: string[] = [];
  const made = new RecordReader((record) => records.push(record.toString('hex')));
  return { push: (hex) => made.push(Buffer.from(hex, 'hex')), records };
}

it('puts records together however they are cut', () => {
  const stream = '80000003aabbcc' + '00000002' + '0102' + '80000001' + '03' + '80000000';
  for (let size = 1; size <= stream.length / 2; size++) {
    const { push, records } = reader();
    for (let at = 0; at < stream.length; at += size * 2) push(stream.slice(at, at + size * 2));
    expect(records).toEqual(['aabbcc', '010203', '']);
  }
});

it('refuses a record that nobody asked for', () => {
  expect(() => reader().push('ffffffff')).toThrow(/an RPC record of 2147483647 bytes/);
  const { push } = reader();
  push(`003fffff${'00'.repeat(0x3fffff)}`);
  expect(() => push('80000002')).toThrow(/an RPC record/);
});
