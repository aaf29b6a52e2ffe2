import { describe, expect, it } from 'vitest';
import {
  archive,
  directory,
  entry,
  file,
  gnuLong,
  hardLink,
  pax,
  symlink,
  withPax,
} from '../../test/images/tar-bytes.ts';
import { Random } from '../../test/support/random.ts';
import { readAll } from '../../test/support/tar-read.ts';
import { isGearError } from '../errors.ts';

const map = Buffer.alloc(512);
map.write('2\n1\n2\n6\n1\n', 'latin1');
const SPARSE = [
  ['GNU.sparse.major', '1'],
  ['GNU.sparse.minor', '0'],
  ['GNU.sparse.realsize', '8'],
] as const;

/** One of everything. */
const tar = archive(
  directory('d/'),
  file('d/f', 'content'.repeat(100)),
  gnuLong('L', 'n'.repeat(120)),
  gnuLong('K', 't'.repeat(120)),
  symlink('s', 't'),
  hardLink('h', 'd/f'),
  entry({ name: 'c', type: '3', major: 1, minor: 3 }),
  pax([['comment', 'c']], { global: true }),
  withPax(
    [
      ['path', 'p'],
      ['mtime', '1.5'],
      ['uid', '70000'],
      ['SCHILY.xattr.user.a', 'b'],
    ],
    { name: 'x', content: 'y' },
  ),
  withPax([...SPARSE], { name: 'sparse', content: Buffer.concat([map, Buffer.from('abc')]) }),
  entry({ name: 'base256', format: 'gnu', uid: 4_000_000_000, mtime: -5 }),
  file('last', 'x'),
);

/** Reads to the end or to a GearError; anything else fails the test. */
async function outcome(bytes: Buffer): Promise<'read' | string> {
  try {
    await readAll(bytes, { limits: { totalBytes: 10_000_000, holeBytes: 1_000_000 } });
    return 'read';
  } catch (error) {
    if (!isGearError(error)) throw error;
    return error.code;
  }
}

/** Makes the checksum of a header right again, so that what was changed is looked at. */
function seal(bytes: Buffer, block: number): void {
  bytes.fill(0x20, block + 148, block + 156);
  let sum = 0;
  for (const byte of bytes.subarray(block, block + 512)) sum += byte;
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, block + 148, 'latin1');
}

describe('a damaged tar', () => {
  it('is read or refused at any length', async () => {
    const ends = new Set<string>();
    for (let length = 0; length < tar.length; length += 37) ends.add(await outcome(tar.subarray(0, length)));
    expect([...ends].sort()).toEqual(['corrupt', 'read']);
  });

  it('never gives fewer bytes than an entry declares', async () => {
    for (let length = 0; length < tar.length; length += 101) {
      const read = await readAll(tar.subarray(0, length)).catch(() => []);
      for (const { body, size } of read) expect(body.length).toBe(size);
    }
  });

  it('is refused at any flipped bit of a header', async () => {
    const random = new Random(7);
    for (let round = 0; round < 300; round++) {
      const damaged = Buffer.from(tar);
      const at = random.int(0, 511);
      damaged[at] = (damaged[at] as number) ^ (1 << random.int(0, 7));
      if (damaged.subarray(148, 156).equals(tar.subarray(148, 156))) expect(await outcome(damaged)).toBe('corrupt');
    }
  });

  it('throws nothing but GearError, with changed bytes and right checksums', async () => {
    const random = new Random(11);
    const seen = new Set<string>();
    for (let round = 0; round < 3000; round++) {
      const damaged = Buffer.from(tar);
      const block = random.int(0, damaged.length / 512 - 3) * 512;
      for (let count = random.int(1, 6); count > 0; count--) {
        const at = block + random.pick([random.int(0, 511), random.int(100, 160), random.int(0, 40)]);
        damaged[at] = random.pick([random.int(0, 255), 0, 0x30, 0x37, 0x80, 0xff, 0x0a, 0x20]);
      }
      if (random.chance(0.9)) seal(damaged, block);
      seen.add(await outcome(damaged));
    }
    expect(seen).toContain('corrupt');
    expect(seen).toContain('read');
    expect(seen).not.toContain('internal');
  });
});
