import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { type Directory, emptyDirectory, type RegularFile, type Tree } from '#core/index/tree.ts';
import { crc32c } from './crc32c.ts';
import { writeIndexImage } from './index-image.ts';

async function compile(root: Directory): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'gear-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const tree: Tree = { kind: 'image', chunkSize: 131_072, root };
  const { size } = await writeIndexImage(tree, join(folder, 'image'));
  const bytes = await readFile(join(folder, 'image'));
  expect(bytes.length).toBe(size);
  return bytes;
}

function file(size: number, content: string): RegularFile {
  return {
    ...{ type: 'file', mode: 0o644, uid: 1, gid: 0x12345, mtimeSeconds: -2, mtimeNanoseconds: 5, xattrs: new Map() },
    ...{ size, digest: digestOf(Buffer.from(content)), chunkDigests: Buffer.alloc(0) },
  };
}

const hex = (bytes: Buffer, from: number, length: number) =>
  (bytes.toString('hex', from, from + length).match(/.{1,32}/g) ?? []).join('\n');

describe('crc32c', () => {
  // The check value of the catalogue of CRCs, there inverted at the end.
  it('is Castagnoli’s', () => expect(~crc32c(Buffer.from('123456789')) >>> 0).toBe(0xe3069283));
});

describe('the bytes of an index image', () => {
  it('are those of the format', async () => {
    const root = emptyDirectory(0o751);
    root.children.set('f', file(5000, 'x'));
    const image = await compile(root);
    expect(image.length).toBe(4096);
    expect(hex(image, 0, 1024)).toMatch(/^[0\n]*$/);
    // magic, checksum (compared below), features, block bits, root; inodes
    expect(hex(image, 1024, 4)).toBe('e2e1f5e0');
    expect(hex(image, 1032, 24)).toBe('030000000c0024000200000000000000\n0000000000000000');
    // blocks, no metadata offset, no shared xattrs
    expect(hex(image, 1024 + 32, 16)).toBe('00000000010000000000000000000000');
    expect(image.toString('latin1', 1024 + 64, 1024 + 80)).toBe('gear\0\0\0\0\0\0\0\0\0\0\0\0');
    expect(hex(image, 1024 + 80, 48)).toMatch(/^04000000[0\n]*$/);
    // The root: inline, no xattrs, mode, size 40; block, number, owner; time, 2 links. Behind it node ids 36, 36 and 40, and three names.
    expect(hex(image, 1152, 104)).toBe(
      [
        '05000000e94100002800000000000000',
        '00000000010000000000000000000000',
        '00000000000000000000000002000000',
        '00000000000000000000000000000000',
        '24000000000000002400020024000000',
        '00000000250002002800000000000000',
        '270001002e2e2e66',
      ].join('\n'),
    );
    // The file: chunks, 28 units of xattrs, mode, size 5000; chunks of 2 blocks, number, owner; time -2 s and 5 ns, 1 link.
    expect(hex(image, 1280, 64)).toBe(
      [
        '09001c00a48100008813000000000000',
        '01000000020000000100000045230100',
        'feffffffffffffff0500000001000000',
        '00000000000000000000000000000000',
      ].join('\n'),
    );
    // A header of xattrs, trusted.overlay.metacopy (prefix 4), empty, and trusted.overlay.redirect with 66 bytes.
    const digest = digestOf(Buffer.from('x'));
    expect(hex(image, 1344, 16)).toBe('00000000000000000000000010040000');
    expect(image.toString('latin1', 1360, 1376)).toBe('overlay.metacopy');
    expect(hex(image, 1376, 4)).toBe('10044200');
    expect(image.toString('latin1', 1380, 1464)).toBe(`overlay.redirect/${digest.slice(0, 2)}/${digest.slice(2)}\0\0`);
    // One chunk, a hole; nothing else.
    expect(hex(image, 1464, 4)).toBe('ffffffff');
    expect(hex(image, 1468, 4096 - 1468)).toMatch(/^[0\n]*$/);
  });

  it('are the same for the same tree in another order, and have a name of their own', async () => {
    const one = emptyDirectory();
    const two = emptyDirectory();
    const names = ['b', 'a', '\xff', '-', 'a-'];
    for (const name of names) one.children.set(name, file(name.length, name));
    for (const name of names.toReversed()) two.children.set(name, file(name.length, name));
    const first = await compile(one);
    expect(first.equals(await compile(two))).toBe(true);
    two.children.delete('a');
    const uuid = (image: Buffer) => image.toString('hex', 1024 + 48, 1024 + 64);
    expect(uuid(await compile(two))).not.toBe(uuid(first));
  });

  it('carry a checksum over the first block', async () => {
    const image = await compile(emptyDirectory());
    const stored = image.readUInt32LE(1028);
    image.writeUInt32LE(0, 1028);
    expect(crc32c(image.subarray(1024, 4096))).toBe(stored);
  });
});
