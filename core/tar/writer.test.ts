import { extract } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import { readAll } from '../../test/support/tar-read.ts';
import type { TarHeader } from './entry.ts';
import { tarHeader, writeTar } from './writer.ts';

const header = (fields: Partial<TarHeader>): TarHeader => ({
  ...{ path: 'a', type: 'file', mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0 },
  ...{ size: 0, link: '', major: 0, minor: 0, xattrs: new Map() },
  ...fields,
});

async function tarOf(entries: { header: TarHeader; content?: Buffer }[]): Promise<Buffer> {
  async function* source() {
    for (const { header, content } of entries) {
      yield content === undefined
        ? { header }
        : {
            header,
            content: (async function* () {
              yield content;
            })(),
          };
    }
  }
  return Buffer.concat(await Array.fromAsync(writeTar(source())));
}

const ODD: Partial<TarHeader>[] = [
  { path: 'd', type: 'directory', mode: 0o1777 },
  { path: 'e/', type: 'directory' },
  { path: 'n'.repeat(100) },
  { path: `${'n'.repeat(200)}/${'m'.repeat(255)}`, mode: 0o4755 },
  { path: `\xff\xfe${'n'.repeat(150)}` },
  { path: 'é\n'.replace('é', '\xc3\xa9'), uid: 2 ** 21 - 1, gid: 2 ** 21 },
  { path: 'ids', uid: 4_294_967_294, gid: 4_000_000_000 },
  { path: 'old', mtimeSeconds: -2, mtimeNanoseconds: 750_000_000 },
  { path: 'older', mtimeSeconds: -1_000_000 },
  { path: 'fine', mtimeSeconds: 1_700_000_000, mtimeNanoseconds: 1 },
  { path: 'late', mtimeSeconds: 2 ** 40 },
  { path: 'link', type: 'symlink', link: 't'.repeat(300), mode: 0o777 },
  { path: 'hard', type: 'hard-link', link: 'old' },
  { path: 'null', type: 'character-device', major: 1, minor: 3 },
  { path: 'disk', type: 'block-device', major: 4095, minor: 2 ** 20 - 1 },
  { path: 'pipe', type: 'fifo' },
  {
    path: 'x',
    xattrs: new Map([
      ['user.b=%', Buffer.from('00ff0a3d', 'hex')],
      ['security.capability', Buffer.from('0100000280ff0ac3', 'hex')],
      ['user.empty', Buffer.alloc(0)],
    ]),
  },
];

describe('tarHeader', () => {
  it('is the same bytes as ever', () => {
    const block = tarHeader(header({ path: 'bin/sh', mode: 0o755, uid: 1, gid: 2, size: 3, mtimeSeconds: 12 }));
    const fields = `${'bin/sh'.padEnd(100, '\0')}0000755\x000000001\x000000002\x0000000000003\x0000000000014\x00`;
    expect(block.toString('latin1', 0, 148)).toBe(fields);
    expect(block.toString('latin1', 148, 157)).toBe('010316\0 0');
    expect(block.toString('latin1', 157, 512)).toBe(
      `${'\0'.repeat(100)}ustar\x0000${'\0'.repeat(64)}0000000\x000000000\0`.padEnd(355, '\0'),
    );
    expect(block).toHaveLength(512);
  });

  it('writes a PAX record whose length counts itself', () => {
    for (const length of [101, 102, 985, 986, 987, 988, 989, 990, 991]) {
      const text = tarHeader(header({ path: 'n'.repeat(length) })).toString('latin1', 512);
      const record = text.slice(0, text.indexOf('\n') + 1);
      expect(Number.parseInt(record, 10)).toBe(record.length);
    }
  });

  it('is read back as it was', async () => {
    const headers = ODD.map(header);
    const read = await readAll(await tarOf(headers.map((header) => ({ header }))));
    const expected = headers.map((each) =>
      each.type === 'directory' && !each.path.endsWith('/') ? { ...each, path: `${each.path}/` } : each,
    );
    expect(read.map(({ body, ...rest }) => rest)).toEqual(expected);
  });

  it('is the same for attributes in any order', () => {
    const pairs: [string, Buffer][] = [
      ['user.b', Buffer.from('2')],
      ['user.a', Buffer.from('1')],
    ];
    const one = tarHeader(header({ xattrs: new Map(pairs) }));
    expect(tarHeader(header({ xattrs: new Map(pairs.reverse()) }))).toEqual(one);
  });

  it.each([
    { path: '' },
    { path: 'a\0b' },
    { type: 'symlink', link: '\0' },
    { type: 'block-device', major: 2 ** 22 },
  ] as const)('refuses %j', (fields) => {
    expect(() => tarHeader(header(fields))).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

describe('writeTar', () => {
  it('writes contents and the end, also for other readers', async () => {
    const bodies = [0, 1, 511, 512, 513, 200_000].map((size, at) => Buffer.alloc(size, `${at}`));
    const tar = await tarOf(
      bodies.map((content, at) => ({ header: header({ path: `f${at}`, size: content.length }), content })),
    );
    expect(tar.length % 512).toBe(0);
    expect((await readAll(tar)).map(({ body }) => body)).toEqual(bodies);
    const seen: [string, number][] = [];
    const other = extract();
    other.end(tar);
    for await (const each of other) {
      seen.push([each.header.name, each.header.size ?? 0]);
      each.resume();
    }
    expect(seen).toEqual(bodies.map((body, at) => [`f${at}`, body.length]));
  });

  it('gives just the end for no entries', async () => expect(await tarOf([])).toEqual(Buffer.alloc(1024)));

  it.each([
    [3, 'ab', '2 came'],
    [3, 'abcd', 'more came'],
    [3, '', '0 came'],
  ])('refuses a content of another size: %d %j', async (size, content, message) => {
    await expect(tarOf([{ header: header({ size }), content: Buffer.from(content) }])).rejects.toThrow(message);
  });
});
