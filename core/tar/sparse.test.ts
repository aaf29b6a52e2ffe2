import { describe, expect, it } from 'vitest';
import { archive, entry, file, withPax } from '../../test/images/tar-bytes.ts';
import { readAll } from '../../test/support/tar-read.ts';

const octal = (value: number): Buffer => Buffer.from(`${value.toString(8).padStart(11, '0')}\0`, 'latin1');
const regions = (...numbers: number[]): Buffer => Buffer.concat(numbers.map(octal));

/** A GNU sparse entry: up to four regions in the header, the others in extension blocks of 21. */
function gnuSparse(name: string, realSize: number, map: number[], content: string): Buffer {
  const rest = map.slice(8);
  const blocks: Buffer[] = [];
  for (let at = 0; at < rest.length; at += 42) {
    const block = Buffer.alloc(512);
    regions(...rest.slice(at, at + 42)).copy(block);
    if (at + 42 < rest.length) block[504] = 1;
    blocks.push(block);
  }
  const raw: [number, Buffer][] = [
    [386, regions(...map.slice(0, 8))],
    [483, octal(realSize)],
  ];
  if (blocks.length > 0) raw.push([482, Buffer.from([1])]);
  const whole = entry({ name, type: 'S', format: 'gnu', content, raw });
  return Buffer.concat([whole.subarray(0, 512), ...blocks, whole.subarray(512)]);
}

const pax10 = (map: string, content: string, realSize: number) => {
  const data = Buffer.alloc(Math.ceil(map.length / 512) * 512);
  data.write(map, 'latin1');
  const records = [
    ['GNU.sparse.major', '1'],
    ['GNU.sparse.minor', '0'],
    ['GNU.sparse.name', 'real'],
  ] as const;
  return withPax([...records, ['GNU.sparse.realsize', String(realSize)]], {
    name: 'GNUSparseFile.1/real',
    content: Buffer.concat([data, Buffer.from(content)]),
  });
};

const cut = gnuSparse('s', 900, Array.from({ length: 50 }, (_, at) => [at, 1]).flat(), 'x').subarray(0, 700);

describe('sparse files', () => {
  it('has holes as zeros in the old GNU format', async () => {
    const [sparse, after] = await readAll(
      archive(gnuSparse('s', 20, [2, 3, 10, 2, 20, 0], 'abcde'), file('after', 'x')),
    );
    expect(sparse).toMatchObject({ path: 's', type: 'file', size: 20 });
    expect(sparse?.body.toString('latin1')).toBe('\0\0abc\0\0\0\0\0de\0\0\0\0\0\0\0\0');
    expect(after?.body.toString()).toBe('x');
  });

  it('reads extension blocks of the old GNU format', async () => {
    const map = Array.from({ length: 50 }, (_, at) => [at * 10, 1]).flat();
    const [sparse, after] = await readAll(archive(gnuSparse('s', 500, map, 'x'.repeat(50)), file('after', 'x')), {
      size: 100,
    });
    expect(sparse?.body.toString('latin1')).toBe(`x${'\0'.repeat(9)}`.repeat(50));
    expect(after?.path).toBe('after');
  });

  it('reads PAX 0.0, 0.1 and 1.0', async () => {
    const read = await readAll(
      archive(
        withPax(
          [
            ['GNU.sparse.size', '8'],
            ['GNU.sparse.numblocks', '2'],
            ['GNU.sparse.offset', '1'],
            ['GNU.sparse.numbytes', '2'],
            ['GNU.sparse.offset', '6'],
            ['GNU.sparse.numbytes', '1'],
          ],
          { name: 'zero', content: 'abc' },
        ),
        withPax(
          [
            ['GNU.sparse.size', '8'],
            ['GNU.sparse.numblocks', '2'],
            ['GNU.sparse.name', 'one'],
            ['GNU.sparse.map', '1,2,6,1'],
          ],
          { name: 'x', content: 'abc' },
        ),
        withPax(
          [
            ['GNU.sparse.size', '4'],
            ['GNU.sparse.numblocks', '0'],
            ['GNU.sparse.map', ''],
          ],
          { name: 'hole', content: '' },
        ),
        pax10('2\n1\n2\n6\n1\n', 'abc', 8),
        file('after', 'x'),
      ),
    );
    expect(read.map(({ path, size, body }) => [path, size, body.toString('latin1')])).toEqual([
      ['zero', 8, '\0ab\0\0\0c\0'],
      ['one', 8, '\0ab\0\0\0c\0'],
      ['hole', 4, '\0\0\0\0'],
      ['real', 8, '\0ab\0\0\0c\0'],
      ['after', 1, 'x'],
    ]);
  });

  it('reads a map of several blocks', async () => {
    const count = 300;
    const map = `${count}\n${Array.from({ length: count }, (_, at) => `${at * 3}\n1\n`).join('')}`;
    const [sparse] = await readAll(archive(pax10(map, 'y'.repeat(count), count * 3)), { size: 77 });
    expect(sparse?.body.toString('latin1')).toBe('y\0\0'.repeat(count));
  });

  it.each([
    [gnuSparse('s', 20, [10, 2, 2, 3], 'abcde'), /not in order/],
    [gnuSparse('s', 20, [0, 3, 2, 2], 'abcde'), /not in order/],
    [gnuSparse('s', 4, [0, 5], 'abcde'), /goes to 5, but its size is 4/],
    [gnuSparse('s', 20, [0, 4], 'abcde'), /counts 4 bytes of data, but 5 follow/],
    [entry({ name: 's', type: 'S', content: 'a' }), /sparse as in the GNU format, but the header is another/],
    [cut, /ends in its sparse map/],
    [pax10('2\n1\n2\n6\n', 'abc', 8), /not a decimal number|ends in its sparse map|without an end/],
    [pax10('1\n-1\n2\n', 'abc', 8), /"-1" is not a decimal/],
    [pax10('1\n', '', 8), /is not a decimal number|without an end|ends in/],
    [withPax([['GNU.sparse.map', '0,1']], { name: 'x', content: 'a' }), /real size is missing/],
    [
      withPax(
        [
          ['GNU.sparse.map', '0,1,2'],
          ['GNU.sparse.size', '3'],
        ],
        { name: 'x', content: 'a' },
      ),
      /offset without a length/,
    ],
    [
      withPax(
        [
          ['GNU.sparse.major', '2'],
          ['GNU.sparse.size', '3'],
        ],
        { name: 'x', content: 'a' },
      ),
      /unknown version 2.0/,
    ],
    [
      withPax(
        [
          ['GNU.sparse.numbytes', '2'],
          ['GNU.sparse.size', '3'],
        ],
        { name: 'x', content: 'a' },
      ),
      /without GNU.sparse.offset/,
    ],
    [
      withPax(
        [
          ['GNU.sparse.offset', '2'],
          ['GNU.sparse.size', '3'],
        ],
        { name: 'x', content: 'a' },
      ),
      /without GNU.sparse.numbytes/,
    ],
  ])('refuses a map that cannot be: %#', async (tar, message) => {
    await expect(readAll(tar)).rejects.toEqual(
      expect.objectContaining({ code: 'corrupt', message: expect.stringMatching(message) }),
    );
  });

  it('has limits for holes and regions', async () => {
    const bomb = withPax(
      [
        ['GNU.sparse.size', String(2 ** 50)],
        ['GNU.sparse.map', ''],
      ],
      { name: 'bomb', content: '' },
    );
    await expect(readAll(bomb)).rejects.toThrow(/the limit \((totalBytes|holeBytes)\)/);
    const many = gnuSparse('s', 100, Array.from({ length: 50 }, (_, at) => [at, 1]).flat(), 'x'.repeat(50));
    await expect(readAll(many, { limits: { sparseRegions: 10 } })).rejects.toThrow(/the limit \(sparseRegions\) is 10/);
    const claim = pax10('99999999\n', '', 8);
    await expect(readAll(claim)).rejects.toThrow(/sparseRegions/);
  });
});
