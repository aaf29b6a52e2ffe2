import { describe, expect, it } from 'vitest';
import { Entry, EntryType, Index, IndexKind } from '#proto/gen/gear/v1/index.ts';
import { Random } from '../../test/support/random.ts';
import { randomTree } from '../../test/support/random-tree.ts';
import { isGearError } from '../errors.ts';
import { decodeIndex, encodeIndex } from './encode.ts';
import type { IndexLimits } from './limits.ts';

const NONE = Entry.decode(Buffer.alloc(0));
const DIGEST = Buffer.alloc(32, 7);

const make = (type: EntryType, name: string, fields: Partial<Entry> = {}): Entry => ({
  ...NONE,
  type,
  name: Buffer.from(name, 'latin1'),
  ...fields,
});
const dir = (name: string, fields?: Partial<Entry>) => make(EntryType.ENTRY_TYPE_DIRECTORY, name, fields);
const file = (name: string, fields?: Partial<Entry>) =>
  make(EntryType.ENTRY_TYPE_FILE, name, { size: 3n, digest: DIGEST, ...fields });
const link = (name: string, to: number, fields?: Partial<Entry>) =>
  make(EntryType.ENTRY_TYPE_HARD_LINK, name, { link: to, ...fields });
const whiteout = (name: string, fields?: Partial<Entry>) => make(EntryType.ENTRY_TYPE_WHITEOUT, name, fields);
const symlink = (name: string, target: string) =>
  make(EntryType.ENTRY_TYPE_SYMLINK, name, { target: Buffer.from(target) });

function bytesOf(entries: Entry[], head: Partial<Index> = {}): Uint8Array {
  return Index.encode({ version: 1, chunkSize: 4096, kind: IndexKind.INDEX_KIND_LAYER, ...head, entries }).finish();
}
const below = (...entries: Entry[]) => bytesOf([dir(''), ...entries]);
const corrupt = (message: RegExp) =>
  expect.objectContaining({ code: 'corrupt', message: expect.stringMatching(message) });

describe('decodeIndex', () => {
  it('takes a valid index', () => {
    const bytes = below(
      dir('a'),
      file('x', { parent: 1 }),
      whiteout('y', { parent: 1 }),
      link('b', 2),
      symlink('c', 't'),
    );
    const { root } = decodeIndex(bytes);
    expect([...root.children.keys()]).toEqual(['a', 'b', 'c']);
    expect(encodeIndex(decodeIndex(bytes))).toEqual(Buffer.from(bytes));
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['nothing', Buffer.alloc(0), /no root directory/],
    ['no entries', bytesOf([]), /no root directory/],
    ['another type of message', Buffer.from('not protobuf at all'), /no message of its type|no root/],
    ['an entry that is cut', below(file('a')).subarray(0, 40), /ends in an entry/],
    ['no chunk size', bytesOf([dir('')], { chunkSize: 0 }), /chunk size is 0/],
    ['an odd chunk size', bytesOf([dir('')], { chunkSize: 6000 }), /chunk size is 6000/],
    ['a huge chunk size', bytesOf([dir('')], { chunkSize: 2 ** 25 }), /chunk size is 33554432/],
    ['no kind', bytesOf([dir('')], { kind: 0 }), /kind is 0/],
    ['an unknown kind', bytesOf([dir('')], { kind: 9 as IndexKind }), /kind is 9/],
    ['a head after the entries', Buffer.concat([below(), Buffer.from('0801', 'hex')]), /version comes after/],
    ['a root with a name', bytesOf([dir('a')]), /not the root directory/],
    ['a root that is a file', bytesOf([file('')]), /not the root directory/],
    ['a root with a parent', bytesOf([dir('', { parent: 1 })]), /not the root directory/],
    ['a parent that comes later', below(file('a', { parent: 2 }), dir('b')), /parent of "a" is entry 2/],
    ['a parent that is itself', below(dir('a', { parent: 1 })), /parent of "a" is entry 1/],
    ['a parent that is a file', below(file('a'), file('b', { parent: 1 })), /parent of "b" is entry 1/],
    [
      'an order that is not depth-first',
      below(dir('a'), dir('b'), file('c', { parent: 1 })),
      /parent of "c" is entry 1/,
    ],
    ['names out of order', below(file('b'), file('a')), /"a" comes after "b"/],
    ['a name twice', below(file('a'), file('a')), /"a" comes after "a"/],
    ['an empty name', below(file('')), /has the name ""/],
    ['the name .', below(file('.')), /has the name "."/],
    ['the name ..', below(file('..')), /has the name ".."/],
    ['a slash', below(file('a/b')), /slash or NUL/],
    ['a NUL', below(file('a\0b')), /slash or NUL/],
    ['a long name', below(file('n'.repeat(256))), /256 bytes, the limit is 255/],
    ['the name of a whiteout', below(file('.wh.a')), /is a whiteout's/],
    ['no type', below(make(0, 'a')), /unknown type 0/],
    ['an unknown type', below(make(12 as EntryType, 'a')), /unknown type 12/],
    ['a mode of 13 bits', below(file('a', { mode: 0o10000 })), /the mode 10000/],
    ['an owner of -1', below(file('a', { uid: 2 ** 32 - 1 })), /the owner/],
    ['too many nanoseconds', below(file('a', { mtimeNanoseconds: 10 ** 9 })), /ns in its time/],
    ['a time that is not exact', below(file('a', { mtimeSeconds: 2n ** 60n })), /modified at/],
    ['a size that is not exact', below(file('a', { size: 2n ** 60n })), /the size/],
    ['a digest of 31 bytes', below(file('a', { digest: DIGEST.subarray(1) })), /digest of 31 bytes/],
    ['a content without digest', below(file('a', { digest: Buffer.alloc(0) })), /3 bytes and no digest/],
    ['a digest without content', below(file('a', { size: 0n })), /0 bytes and a digest/],
    ['no chunk digests', below(file('a', { size: 4097n })), /0 bytes of chunk digests instead of 64/],
    [
      'chunk digests of one chunk',
      below(file('a', { chunkDigests: DIGEST })),
      /32 bytes of chunk digests instead of 0/,
    ],
    ['two sizes of a digest', below(file('a'), file('b', { size: 4n })), /another size or other chunks/],
    ['an empty target', below(symlink('a', '')), /target of 0 bytes/],
    ['a target with NUL', below(symlink('a', 'b\0')), /target of 2 bytes/],
    ['a long target', below(symlink('a', 't'.repeat(4096))), /target of 4096 bytes/],
    ['a big device', below(make(EntryType.ENTRY_TYPE_BLOCK_DEVICE, 'a', { deviceMajor: 4096 })), /device 4096:0/],
    ['an overlayfs whiteout', below(make(EntryType.ENTRY_TYPE_CHARACTER_DEVICE, 'a')), /character device 0:0/],
    ['a link to a directory', below(dir('a'), link('b', 1)), /hard link to entry 1, which is not/],
    ['a link to the root', below(link('b', 0)), /hard link to entry 0, which is not/],
    ['a link to a whiteout', below(whiteout('a'), link('b', 1)), /which is not/],
    ['a link to a link', below(file('a'), link('b', 1), link('c', 2)), /hard link to entry 2, which is not/],
    ['a link to itself', below(link('a', 1)), /hard link to entry 1, which is not/],
    ['a link to a later file', below(link('a', 2), file('b')), /hard link to entry 2, which is not/],
    ['a link far outside', below(file('a'), link('b', 2 ** 32 - 1)), /which is not/],
    ['a link with metadata', below(file('a'), link('b', 1, { mode: 1 })), /has metadata, which its type has not/],
    ['a whiteout with metadata', below(whiteout('a', { uid: 1 })), /has metadata/],
    ['a directory with a target', below(dir('a', { target: DIGEST })), /has a target/],
    ['a directory with a size', below(dir('a', { size: 1n })), /has a size or digests/],
    ['a file with device numbers', below(file('a', { deviceMinor: 1 })), /has device numbers/],
    ['a file with a link', below(file('a', { link: 1 })), /has a link/],
    ['an opaque file', below(file('a', { opaque: true })), /has a mark of directories/],
    ['an implied file', below(file('a', { implied: true })), /has a mark of directories/],
    ['attributes out of order', below(file('a', { xattrs: ['b', 'a'].map(xattr) })), /attributes out of order/],
    ['an attribute twice', below(file('a', { xattrs: ['a', 'a'].map(xattr) })), /attributes out of order/],
    ['an order to overlayfs', below(file('a', { xattrs: [xattr('trusted.overlay.redirect')] })), /order to overlayfs/],
    ['one to overlayfs in a namespace', below(file('a', { xattrs: [xattr('user.overlay.opaque')] })), /order to/],
    ['an attribute with NUL', below(file('a', { xattrs: [xattr('user.a\0')] })), /NUL in it/],
    ['a long attribute name', below(file('a', { xattrs: [xattr('n'.repeat(256))] })), /attribute name of 256/],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => decodeIndex(bytes)).toThrow(corrupt(message));
  });

  it('refuses marks of layers in an image', () => {
    const image = { kind: IndexKind.INDEX_KIND_IMAGE };
    expect(() => decodeIndex(bytesOf([dir(''), whiteout('a')], image))).toThrow(corrupt(/is a whiteout/));
    expect(() => decodeIndex(bytesOf([dir('', { opaque: true })], image))).toThrow(corrupt(/is opaque/));
    expect(() => decodeIndex(bytesOf([dir(''), dir('a', { implied: true })], image))).toThrow(corrupt(/is implied/));
  });

  it('names another version', () => {
    const error = { code: 'unsupported', message: 'the index has version 2, this program reads version 1' };
    expect(() => decodeIndex(bytesOf([dir('')], { version: 2 }))).toThrow(expect.objectContaining(error));
  });

  it.each<[keyof IndexLimits, number, Uint8Array]>([
    ['entries', 2, below(file('a'), file('b', { digest: Buffer.alloc(32) }))],
    ['nameBytes', 2, below(file('abc'))],
    ['pathBytes', 3, below(dir('ab'), file('c', { parent: 1 }))],
    ['depth', 0, below(dir('a'), dir('b', { parent: 1 }))],
    ['targetBytes', 2, below(symlink('a', 'abc'))],
    ['xattrs', 1, below(file('a', { xattrs: ['a', 'b'].map(xattr) }))],
    ['xattrNameBytes', 2, below(file('a', { xattrs: [xattr('abc')] }))],
    ['xattrBytes', 0, below(file('a', { xattrs: [xattr('a')] }))],
    ['totalBytes', 5, below(file('a'), file('b'))],
  ])('has a limit for %s', (limit, value, bytes) => {
    expect(() => decodeIndex(bytes)).not.toThrow();
    expect(() => decodeIndex(bytes, { [limit]: value })).toThrow(corrupt(/./));
  });

  it('throws nothing but GearError, whatever is changed', () => {
    const random = new Random(5);
    const whole = encodeIndex(randomTree(3, { kind: 'layer', entries: 40, chunkSize: 4096 }).tree);
    let refused = 0;
    for (let round = 0; round < 1500; round++) {
      const bytes = Buffer.from(whole.subarray(0, random.chance(0.2) ? random.int(0, whole.length) : whole.length));
      for (let count = random.int(1, 4); count > 0 && bytes.length > 0; count--) {
        bytes[random.int(0, bytes.length - 1)] = random.int(0, 255);
      }
      try {
        const tree = decodeIndex(bytes);
        // What is accepted is valid: it can be written, and read again as the same.
        expect(encodeIndex(decodeIndex(encodeIndex(tree)))).toEqual(encodeIndex(tree));
      } catch (error) {
        if (!isGearError(error, 'corrupt', 'unsupported')) throw error;
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(400);
  });
});

function xattr(name: string) {
  return { name: Buffer.from(name, 'latin1'), value: Buffer.from('v') };
}
