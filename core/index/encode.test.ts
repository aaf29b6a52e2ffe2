import { describe, expect, it } from 'vitest';
import { Index } from '#proto/gen/gear/v1/index.ts';
import { randomTree } from '../../test/support/random-tree.ts';
import { digestOf } from '../digest.ts';
import { decodeIndex, encodeIndex } from './encode.ts';
import { type Directory, emptyDirectory, type Inode, type RegularFile, type Tree } from './tree.ts';

function treeOf(children: Record<string, Inode>, kind: Tree['kind'] = 'layer', fields: Partial<Directory> = {}): Tree {
  const root = { ...emptyDirectory(), ...fields, children: new Map(Object.entries(children)) };
  return { kind, chunkSize: 4096, root };
}

const META = { mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0, xattrs: new Map<string, Buffer>() };
const fileOf = (fields: Partial<RegularFile> = {}): RegularFile => ({
  ...{ type: 'file', ...META, size: 3, digest: digestOf(Buffer.from('abc')), chunkDigests: Buffer.alloc(0) },
  ...fields,
});
const invalid = (message: RegExp) =>
  expect.objectContaining({ code: 'invalid-argument', message: expect.stringMatching(message) });

describe('an encoded index', () => {
  it('is these bytes', () => {
    const file = fileOf({ mode: 0o755, uid: 1, mtimeSeconds: -1, mtimeNanoseconds: 5 });
    const tree = treeOf({ b: file, a: { type: 'whiteout' }, c: file }, 'layer', { opaque: true, implied: true });
    expect(encodeIndex(tree).toString('hex')).toBe(
      [
        '0801 108020 1802', // version 1, chunk size 4096, layer
        '220b 1801 20ed03 880101 900101', // the root: directory, 0755, opaque, implied
        '2205 120161 1808', // a: whiteout
        `2232 120162 1802 20ed03 2801 3801 4005 6003 6a20${file.digest}`, // b: file, 0755, uid 1, -1 s, 5 ns, 3 bytes
        '2208 120163 1807 800102', // c: hard link to entry 2
      ]
        .join('')
        .replaceAll(' ', ''),
    );
  });

  it('gives back any tree, and the same bytes again', () => {
    for (let seed = 0; seed < 200; seed++) {
      const { tree } = randomTree(seed, { kind: seed % 2 === 0 ? 'image' : 'layer', entries: 60, chunkSize: 4096 });
      const bytes = encodeIndex(tree);
      const decoded = decodeIndex(bytes);
      expect(decoded).toEqual(tree);
      expect(encodeIndex(decoded).equals(bytes)).toBe(true);
    }
  });

  it('does not depend on the order of names and attributes', () => {
    const xattrs: [string, Buffer][] = [
      ['user.b', Buffer.from('1')],
      ['user.a', Buffer.from('2')],
    ];
    const make = (order: 1 | -1): Tree => {
      const sorted = <T>(list: T[]): T[] => (order === 1 ? list : list.toReversed());
      const file = fileOf({ xattrs: new Map(sorted(xattrs)) });
      return {
        ...treeOf({}),
        root: {
          ...emptyDirectory(),
          children: new Map(
            sorted([
              ['a', file],
              ['b', file],
            ]),
          ),
        },
      };
    };
    expect(encodeIndex(make(1))).toEqual(encodeIndex(make(-1)));
  });

  it('orders names by their bytes', () => {
    const names = ['a', 'a-b', 'a.x', 'ab', 'B', '\xff', '\x01'];
    const tree = treeOf(Object.fromEntries(names.map((name) => [name, fileOf()])));
    const { entries } = Index.decode(encodeIndex(tree));
    const found = entries.slice(1).map(({ name }) => name);
    expect(found).toEqual(found.toSorted(Buffer.compare));
  });

  it('keeps what is shared shared', () => {
    const file = fileOf();
    const decoded = decodeIndex(encodeIndex(treeOf({ a: file, b: file, c: fileOf() }))).root.children;
    expect(decoded.get('b')).toBe(decoded.get('a'));
    expect(decoded.get('c')).not.toBe(decoded.get('a'));
  });

  it('may nest as deep as the limit, and is then read again', () => {
    const make = (depth: number): Tree => {
      let root = emptyDirectory();
      root.children.set('f', fileOf());
      for (let at = 0; at < depth; at++) root = { ...emptyDirectory(), children: new Map([['d', root]]) };
      return { ...treeOf({}), root };
    };
    const bytes = encodeIndex(make(1024));
    expect(encodeIndex(decodeIndex(bytes))).toEqual(bytes);
    expect(() => encodeIndex(make(1025))).toThrow(/deeper than 1024/);
  });

  it('takes 100,000 entries in seconds', () => {
    const root = emptyDirectory();
    for (let at = 0; at < 1000; at++) {
      const directory = emptyDirectory();
      root.children.set(`directory-${at}`, directory);
      for (let file = 0; file < 100; file++) {
        directory.children.set(
          `file-${file}`,
          fileOf({ size: 100 + file, digest: digestOf(Buffer.from(`${at}/${file}`)) }),
        );
      }
    }
    const start = performance.now();
    const bytes = encodeIndex({ kind: 'image', chunkSize: 4096, root });
    expect(decodeIndex(bytes).root.children.size).toBe(1000);
    expect(performance.now() - start).toBeLessThan(8000);
  });
});

describe('encodeIndex', () => {
  const deep = (): Directory => {
    let directory = emptyDirectory();
    for (let at = 0; at < 1100; at++) {
      const above = emptyDirectory();
      above.children.set('d', directory);
      directory = above;
    }
    return directory;
  };
  const loop = emptyDirectory();
  loop.children.set('again', loop);
  const twice = emptyDirectory();

  it.each<[Tree, RegExp]>([
    [{ ...treeOf({}), chunkSize: 5000 }, /chunk size is 5000/],
    [{ ...treeOf({}), chunkSize: 2048 }, /chunk size is 2048/],
    [{ ...treeOf({}), chunkSize: Number.NaN }, /chunk size is NaN/],
    [treeOf({ '': fileOf() }), /has the name ""/],
    [treeOf({ '..': fileOf() }), /has the name ".."/],
    [treeOf({ 'a/b': fileOf() }), /slash or NUL/],
    [treeOf({ 'a\0b': fileOf() }), /slash or NUL/],
    [treeOf({ '.wh.a': fileOf() }), /is a whiteout's/],
    [treeOf({ ['n'.repeat(256)]: fileOf() }), /256 bytes/],
    [treeOf({ a: fileOf({ mode: 0o10000 }) }), /"a" has the mode 10000/],
    [treeOf({ a: fileOf({ uid: 2 ** 32 - 1 }) }), /the owner 4294967295:0/],
    [treeOf({ a: fileOf({ gid: -1 }) }), /the owner 0:-1/],
    [treeOf({ a: fileOf({ mtimeSeconds: 0.5 }) }), /modified at 0.5 s/],
    [treeOf({ a: fileOf({ mtimeNanoseconds: 10 ** 9 }) }), /1000000000 ns/],
    [treeOf({ a: fileOf({ size: -1 }) }), /the size -1/],
    [treeOf({ a: fileOf({ size: 0 }) }), /0 bytes and a digest/],
    [treeOf({ a: fileOf({ digest: undefined }) }), /3 bytes and no digest/],
    [treeOf({ a: fileOf({ size: 4097 }) }), /0 bytes of chunk digests instead of 64/],
    [treeOf({ a: fileOf({ chunkDigests: Buffer.alloc(32) }) }), /32 bytes of chunk digests instead of 0/],
    [treeOf({ a: { type: 'symlink', ...META, target: '' } }), /target of 0 bytes/],
    [treeOf({ a: { type: 'symlink', ...META, target: 't'.repeat(4096) } }), /target of 4096 bytes/],
    [treeOf({ a: { type: 'block-device', ...META, major: 4096, minor: 0 } }), /device 4096:0/],
    [treeOf({ a: { type: 'character-device', ...META, major: 0, minor: 0 } }), /character device 0:0/],
    [treeOf({ a: fileOf({ xattrs: new Map([['trusted.overlay.metacopy', Buffer.alloc(0)]]) }) }), /order to overlayfs/],
    [treeOf({ a: fileOf({ xattrs: new Map([['', Buffer.alloc(0)]]) }) }), /empty name/],
    [treeOf({ a: fileOf({ xattrs: new Map([['n'.repeat(256), Buffer.alloc(0)]]) }) }), /name of 256 bytes/],
    [
      treeOf({ a: fileOf({ xattrs: new Map([['user.a', Buffer.alloc(65537)]]) }) }),
      /65537 bytes in the attribute "user.a"/,
    ],
    [treeOf({ a: { type: 'whiteout' } }, 'image'), /is a whiteout, in the tree of an image/],
    [treeOf({}, 'image', { opaque: true }), /is opaque, in the tree of an image/],
    [treeOf({}, 'image', { implied: true }), /is implied, in the tree of an image/],
    [treeOf({ a: twice, b: twice }), /the directory "b" has another name/],
    [{ ...treeOf({}), root: loop }, /the directory "again" has another name/],
    [{ ...treeOf({}), root: deep() }, /deeper than 1024/],
    [treeOf({ a: fileOf(), b: fileOf({ size: 4 }) }), /"b" has the digest .*, but another size/],
    [
      treeOf({ a: fileOf({ size: 2 ** 45, chunkDigests: { length: 2 ** 33 * 32 } as Buffer }) }),
      /files have more than/,
    ],
  ])('refuses what no index can hold: %#', (tree, message) => {
    expect(() => encodeIndex(tree)).toThrow(invalid(message));
  });
});
