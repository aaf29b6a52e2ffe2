import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { koffi } from './koffi.ts';
import { residentBuffer } from './resident.ts';

/** The flags of the mapping that an address is in, as /proc/<pid>/smaps has them. */
function flagsAt(address: bigint): string[] {
  let inside = false;
  for (const line of readFileSync('/proc/self/smaps', 'latin1').split('\n')) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range !== null) inside = BigInt(`0x${range[1]}`) <= address && address < BigInt(`0x${range[2]}`);
    if (inside && line.startsWith('VmFlags:')) return line.split(/\s+/).slice(1);
  }
  return [];
}

test.each([100, 16 * 1024])('all %d bytes are locked, and no child gets them', (bytes) => {
  const buffer = residentBuffer(bytes);
  expect(buffer).toHaveLength(bytes);
  const start = koffi.address(buffer);
  for (const address of [start, start + BigInt(bytes - 1)]) {
    // Do not copy on fork; locked.
    expect(flagsAt(address)).toEqual(expect.arrayContaining(['dc', 'lo']));
  }
  buffer.fill(1);
  expect(buffer.every((byte) => byte === 1)).toBe(true);
});
