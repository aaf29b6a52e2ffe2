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
import { pieces, readAll } from '../../test/support/tar-read.ts';
import { readTar } from './reader.ts';

const corrupt = (message: RegExp) =>
  expect.objectContaining({ code: 'corrupt', message: expect.stringMatching(message) });

describe('readTar', () => {
  it('reads a ustar header byte by byte', async () => {
    // Written out by hand: name, mode 0755, uid 1, gid 2, size 3, mtime 0o14, checksum, type, magic, version.
    const block = Buffer.alloc(512);
    block.write('bin/sh\0');
    block.write('0000755\x000000001\x000000002\x0000000000003\x0000000000014\x00', 100, 'latin1');
    block.write('        0', 148, 'latin1');
    block.write('ustar\x0000root', 257, 'latin1');
    block.write('usr', 345, 'latin1');
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    const [only] = await readAll(Buffer.concat([block, Buffer.from('abc'.padEnd(512, '\0')), Buffer.alloc(1024)]));
    expect(only).toEqual({
      ...{ path: 'usr/bin/sh', type: 'file', mode: 0o755, uid: 1, gid: 2, mtimeSeconds: 12, mtimeNanoseconds: 0 },
      ...{ size: 3, link: '', major: 0, minor: 0, xattrs: new Map(), body: Buffer.from('abc') },
    });
  });

  it('reads every type', async () => {
    const tar = archive(
      directory('d/'),
      file('f', 'x'),
      entry({ name: 'old', type: '\0', content: 'y' }),
      entry({ name: 'contiguous', type: '7', content: 'z' }),
      hardLink('h', 'f'),
      symlink('s', 'f'),
      entry({ name: 'c', type: '3', major: 1, minor: 70_000 }),
      entry({ name: 'b', type: '4', major: 8, minor: 1 }),
      entry({ name: 'p', type: '6' }),
    );
    const read = await readAll(tar);
    expect(read.map(({ path, type, link, major, minor, body }) => [path, type, link, major, minor, `${body}`])).toEqual(
      [
        ['d/', 'directory', '', 0, 0, ''],
        ['f', 'file', '', 0, 0, 'x'],
        ['old', 'file', '', 0, 0, 'y'],
        ['contiguous', 'file', '', 0, 0, 'z'],
        ['h', 'hard-link', 'f', 0, 0, ''],
        ['s', 'symlink', 'f', 0, 0, ''],
        ['c', 'character-device', '', 1, 70_000, ''],
        ['b', 'block-device', '', 8, 1, ''],
        ['p', 'fifo', '', 0, 0, ''],
      ],
    );
  });

  it('uses the prefix field only where it is one', async () => {
    const raw = [[345, Buffer.from('12345670123\0')]] as const;
    const read = await readAll(
      archive(
        entry({ name: 'ustar', prefix: 'a/b' }),
        entry({ name: 'gnu', format: 'gnu', raw }),
        entry({ name: 'v7', format: 'v7', raw }),
      ),
    );
    expect(read.map(({ path }) => path)).toEqual(['a/b/ustar', 'gnu', 'v7']);
  });

  it('takes a slash at the end for a directory where old tars mean one', async () => {
    const read = await readAll(
      archive(entry({ name: 'a/', type: '\0', format: 'v7' }), file('b/', ''), file('c/', 'content')),
    );
    expect(read.map(({ type }) => type)).toEqual(['directory', 'directory', 'file']);
  });

  it('ignores sizes of what has no content', async () => {
    const read = await readAll(
      archive(
        hardLink('h', 'f', { size: 12 }),
        symlink('s', 'f', { size: 4000 }),
        directory('d/', { size: 512 }),
        file('f', 'x'),
      ),
    );
    expect(read.map(({ path, size }) => [path, size])).toEqual([
      ['h', 0],
      ['s', 0],
      ['d/', 0],
      ['f', 1],
    ]);
  });

  it('reads GNU long names and base-256 numbers', async () => {
    const name = `${'n'.repeat(150)}/${'m'.repeat(120)}`;
    const read = await readAll(
      archive(
        gnuLong('K', 't'.repeat(300)),
        gnuLong('L', name),
        entry({ name: 'x', type: '2', link: 'y', format: 'gnu' }),
        entry({ name: 'big', format: 'gnu', uid: 4_000_000_000, gid: 3_000_000, mtime: -12_345 }),
      ),
    );
    expect(read[0]).toMatchObject({ path: name, link: 't'.repeat(300) });
    expect(read[1]).toMatchObject({ path: 'big', uid: 4_000_000_000, gid: 3_000_000, mtimeSeconds: -12_345 });
  });

  it('applies PAX records to the next entry only, and global ones to none', async () => {
    const records = [
      ['path', 'p\xff'],
      ['uid', '3000000000'],
      ['gid', '7'],
      ['mtime', '-1.25'],
    ] as const;
    const read = await readAll(
      archive(
        pax(
          [
            ['uid', '5'],
            ['path', 'g'],
          ],
          { global: true },
        ),
        withPax([...records, ['hdrcharset', 'BINARY'], ['vendor.key', 'v']], { name: 'x' }),
        withPax(
          [
            ['linkpath', 'over'],
            ['size', '3'],
          ],
          { name: 's', type: '2', link: 'x' },
        ),
        withPax([['size', '3']], { name: 'f', content: 'abc', raw: [[124, Buffer.from('00000000000\0')]] }),
        withPax(
          [
            ['path', 'first'],
            ['path', ''],
          ],
          { name: 'taken-back' },
        ),
        file('last', ''),
      ),
    );
    expect(read[0]).toMatchObject({
      path: 'p\xff',
      uid: 3_000_000_000,
      gid: 7,
      mtimeSeconds: -2,
      mtimeNanoseconds: 750_000_000,
    });
    expect(read[1]).toMatchObject({ path: 's', link: 'over', size: 0, uid: 0 });
    expect(read[2]).toMatchObject({ path: 'f', size: 3, body: Buffer.from('abc') });
    expect(read.slice(3).map(({ path }) => path)).toEqual(['taken-back', 'last']);
  });

  it('keeps binary attributes as they are, SCHILY before LIBARCHIVE', async () => {
    const value = Buffer.from('0100000280ff0ac300', 'hex');
    const [only] = await readAll(
      archive(
        withPax(
          [
            ['SCHILY.xattr.security.capability', value],
            ['SCHILY.xattr.user.empty', ''],
            ['SCHILY.xattr.user.a%3Db%25', 'equals'],
            ['LIBARCHIVE.xattr.user.a%20b', Buffer.from(value.toString('base64').replaceAll('=', ''))],
            ['LIBARCHIVE.xattr.security.capability', 'AAAA'],
          ],
          { name: 'x' },
        ),
      ),
    );
    expect([...(only?.xattrs ?? [])].sort()).toEqual([
      ['security.capability', value],
      ['user.a b', value],
      ['user.a=b%', Buffer.from('equals')],
      ['user.empty', Buffer.alloc(0)],
    ]);
  });

  it('accepts checksums over signed bytes', async () => {
    const tar = archive(file('caf\xe9', ''));
    const unsigned = Number.parseInt(tar.toString('latin1', 148, 154), 8);
    tar.write(`${(unsigned - 256).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    expect((await readAll(tar))[0]?.path).toBe('caf\xe9');
  });

  it('takes any end that loses nothing', async () => {
    const one = file('a', 'x');
    const ends: [string, Buffer][] = [
      ['nothing at all', Buffer.alloc(0)],
      ['no end', one],
      ['no padding', one.subarray(0, 513)],
      ['one zero block', Buffer.concat([one, Buffer.alloc(512)])],
      ['rubbish after the end', Buffer.concat([archive(one), Buffer.from('rubbish')])],
      ['many zeros', Buffer.concat([archive(one), Buffer.alloc(9000)])],
      ['a global header only', pax([['comment', 'c']], { global: true })],
    ];
    for (const [what, tar] of ends) {
      const count = tar.includes('ustar') && tar[0] === 0x61 ? 1 : 0;
      expect(await readAll(tar), what).toHaveLength(count);
    }
  });

  it.each([
    [
      file('name', 'x'.repeat(600)).subarray(0, 700),
      /ends in the content of the tar entry "name", after 188 of 600 bytes/,
    ],
    [
      Buffer.concat([file('name', ''), file('b', '').subarray(0, 100)]),
      /ends in a header, at byte 612 \(after the tar entry "name"\)/,
    ],
    [pax([['path', 'x']]), /ends after an extension header/],
    [pax([['path', 'x'.repeat(600)]]).subarray(0, 800), /ends in the extension header at byte 0/],
    [Buffer.concat([file('a', ''), Buffer.alloc(512), file('b', '')]), /zero block at byte 512/],
    [Buffer.alloc(512, 'x'), /header at byte 0 has a wrong checksum/],
    [entry({ name: 'x', raw: [[108, Buffer.from('12x4')]] }), /its uid "12x40000*\\u0000" is not an octal number/],
    [entry({ name: 'x', raw: [[124, Buffer.from('ffffffffffffffffffffffff', 'hex')]] }), /its size is negative/],
    [entry({ name: 'x', type: 'x', content: '12 path=x' }), /PAX record/],
    [entry({ name: 'x', type: 'x', content: '99 path=x\n' }), /does not end where its length says/],
    [entry({ name: 'x', type: 'x', content: '7 path\n' }), /no "="/],
    [entry({ name: 'x', type: 'x', content: 'path=x\n' }), /PAX record/],
    [withPax([['uid', '-1']], { name: 'x' }), /its PAX uid "-1"/],
    [withPax([['path', 'a\0b']], { name: 'x' }), /NUL/],
    [withPax([['LIBARCHIVE.xattr.user.a', '!']], { name: 'x' }), /not base64/],
  ])('refuses what is damaged: %#', async (tar, message) => {
    await expect(readAll(tar)).rejects.toEqual(corrupt(message));
  });

  it.each([
    [entry({ name: 'vol', type: 'V' }), 'unsupported', /"vol" has the type "V"/],
    [entry({ name: 'x', uid: 2 ** 32 - 1 }), 'invalid-argument', /"x" has the uid 4294967295/],
    [withPax([['gid', '4294967295']], { name: 'x' }), 'invalid-argument', /the gid/],
    [entry({ name: 'x', uid: -1 }), 'invalid-argument', /the uid -1/],
  ])('refuses what cannot be: %#', async (tar, code, message) => {
    await expect(readAll(tar)).rejects.toEqual(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });

  it.each([
    ['entries', { entries: 1 }, archive(file('a', ''), file('b', ''))],
    ['pathBytes', { pathBytes: 3 }, archive(file('abcd', ''))],
    ['pathBytes', { pathBytes: 3 }, archive(gnuLong('L', 'abcd'), file('a', ''))],
    ['linkBytes', { linkBytes: 3 }, archive(symlink('a', 'abcd'))],
    ['paxBytes', { paxBytes: 100 }, archive(withPax([['comment', 'c'.repeat(100)]], { name: 'a' }))],
    [
      'xattrs',
      { xattrs: 1 },
      archive(
        withPax(
          [
            ['SCHILY.xattr.user.a', ''],
            ['SCHILY.xattr.user.b', ''],
          ],
          { name: 'a' },
        ),
      ),
    ],
    ['xattrNameBytes', {}, archive(withPax([[`SCHILY.xattr.user.${'n'.repeat(251)}`, '']], { name: 'a' }))],
    ['xattrBytes', {}, archive(withPax([['SCHILY.xattr.user.a', Buffer.alloc(65_537)]], { name: 'a' }))],
    ['extensions', {}, archive(...Array.from({ length: 17 }, () => pax([['a', 'b']])), file('a', ''))],
    ['totalBytes', { totalBytes: 5 }, archive(file('a', 'abc'), file('b', 'def'))],
  ])('has a limit for %s', async (limit, limits, tar) => {
    const error = { code: 'resource-exhausted', fields: expect.objectContaining({ limit }) };
    await expect(readAll(tar, { limits })).rejects.toEqual(expect.objectContaining(error));
  });

  it('skips what is not consumed, and lets nobody read it later', async () => {
    const tar = archive(file('a', 'x'.repeat(5000)), file('b', 'y'.repeat(700)), file('c', 'z'));
    const contents: AsyncIterable<Buffer>[] = [];
    const names: string[] = [];
    for await (const { path, content } of readTar(pieces(tar, 300))) {
      names.push(path);
      contents.push(content);
      if (path === 'b') for await (const _ of content) break;
    }
    expect(names).toEqual(['a', 'b', 'c']);
    await expect(async () => {
      for await (const _ of contents[0] ?? []) break;
    }).rejects.toThrow(/content of the tar entry "a" is gone/);
    await expect(async () => {
      for await (const _ of contents[1] ?? []) break;
    }).rejects.toThrow(/can be read only once/);
  });

  it('reads the same in pieces of any size', async () => {
    const tar = archive(
      withPax([['SCHILY.xattr.user.a', 'v']], { name: 'a', content: 'x'.repeat(1500) }),
      file('b', 'y'),
    );
    const whole = await readAll(tar);
    for (const size of [1, 7, 511, 512, 513]) expect(await readAll(tar, { size })).toEqual(whole);
  });

  it('ends its source when it is left early, and when it is aborted', async () => {
    let ended = 0;
    async function* source() {
      try {
        yield* pieces(archive(file('a', 'x'), file('b', 'y')), 512);
        await new Promise(() => {});
      } finally {
        ended++;
      }
    }
    for await (const _ of readTar(source())) break;
    expect(ended).toBe(1);
    const controller = new AbortController();
    const reading = (async () => {
      for await (const _ of readTar(source(), { signal: controller.signal }));
    })();
    setTimeout(() => controller.abort(new Error('enough')), 20);
    await expect(reading).rejects.toThrow('enough');
  });
});
