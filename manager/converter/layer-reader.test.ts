import { randomBytes } from 'node:crypto';
import { mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { LayerReader } from './layer-reader.ts';

// More than one piece of everything, partly compressible.
const TAR = Buffer.concat([randomBytes(700_000), Buffer.alloc(2_000_000, 'gear'), randomBytes(123)]);

interface Given {
  readonly file?: Buffer | undefined;
  readonly size?: number;
  readonly digest?: ReturnType<typeof digestOf>;
  readonly diffId?: ReturnType<typeof digestOf>;
  /** Bytes of the tar that are read before `finish`; default all. */
  readonly readBytes?: number;
  readonly signal?: AbortSignal;
}

async function read(blob: Buffer, given: Given = {}): Promise<{ tar: Buffer; tarSize: number; readBytes: number }> {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'gear-'));
  const path = join(folder.path, 'blob');
  await writeFile(path, given.file ?? blob);
  let readBytes = 0;
  await using reader = await LayerReader.open(
    path,
    { mediaType: '', digest: given.digest ?? digestOf(blob), size: given.size ?? blob.length },
    {
      name: 'layer 2 of 3',
      diffId: given.diffId ?? digestOf(TAR),
      signal: given.signal ?? new AbortController().signal,
      onRead: (bytes) => {
        readBytes += bytes;
      },
    },
  );
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of reader.content) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes >= (given.readBytes ?? Number.POSITIVE_INFINITY)) break;
  }
  const { tarSize } = await reader.finish();
  return { tar: Buffer.concat(pieces), tarSize, readBytes };
}

const corrupt = (message: RegExp) =>
  expect.objectContaining({ code: 'corrupt', message: expect.stringMatching(message) });

describe('LayerReader', () => {
  const members = [TAR.subarray(0, 1_000_000), TAR.subarray(1_000_000)];
  it.each([
    ['plain', TAR],
    ['gzip', gzipSync(TAR)],
    ['gzip of several members', Buffer.concat(members.map((member) => gzipSync(member)))],
    ['gzip with zeros behind it', Buffer.concat([gzipSync(TAR), Buffer.alloc(3_000_000)])],
    ['zstd', zstdCompressSync(TAR)],
    ['zstd of several frames', Buffer.concat(members.map((member) => zstdCompressSync(member)))],
  ])('reads %s', async (_name, blob) => {
    const { tar, tarSize, readBytes } = await read(blob);
    expect(tar.equals(TAR)).toBe(true);
    expect(tarSize).toBe(TAR.length);
    expect(readBytes).toBe(blob.length);
  });

  it('reads a layer of nothing', async () => {
    expect(await read(Buffer.alloc(0), { diffId: digestOf(Buffer.alloc(0)) })).toMatchObject({ tarSize: 0 });
  });

  it('verifies what nobody read', async () => {
    expect(await read(gzipSync(TAR), { readBytes: 10 })).toMatchObject({ tarSize: TAR.length });
    await expect(read(gzipSync(TAR), { readBytes: 10, diffId: digestOf(Buffer.from('x')) })).rejects.toThrow(
      corrupt(/digest is sha256/),
    );
  });

  it.each([gzipSync(TAR), zstdCompressSync(TAR)])('names a truncated layer', async (blob) => {
    await expect(read(blob, { file: blob.subarray(0, blob.length - 100_000) })).rejects.toThrow(
      corrupt(/^layer 2 of 3: .*truncated/),
    );
  });

  it.each([gzipSync(TAR), zstdCompressSync(TAR)])('names a layer with damaged bytes', async (blob) => {
    const file = Buffer.from(blob);
    file.fill(0xff, 1000, 2000);
    await expect(read(blob, { file })).rejects.toThrow(corrupt(/^layer 2 of 3: /));
  });

  it('finds a digest, a diff id or a size that does not fit', async () => {
    const blob = gzipSync(TAR);
    await expect(read(blob, { digest: digestOf(TAR) })).rejects.toThrow(corrupt(/blob's digest is/));
    await expect(read(blob, { diffId: digestOf(blob) })).rejects.toThrow(corrupt(/uncompressed layer's digest is/));
    await expect(read(blob, { size: blob.length + 1 })).rejects.toThrow(corrupt(/manifest says/));
    await expect(read(TAR, { file: TAR.subarray(1) })).rejects.toThrow(corrupt(/manifest says/));
  });

  it('refuses other compressions by name', async () => {
    for (const [magic, name] of [
      ['BZh91AY', 'bzip2'],
      ['\xfd7zXZ\0\0', 'xz'],
    ] as const) {
      await expect(read(Buffer.from(magic, 'latin1'))).rejects.toThrow(
        expect.objectContaining({ code: 'unsupported', message: expect.stringContaining(name) }),
      );
    }
  });

  it('says that a blob is missing', async () => {
    const options = { name: 'layer 1 of 1', diffId: digestOf(TAR), signal: new AbortController().signal };
    await expect(
      LayerReader.open('/nonexistent', { mediaType: '', digest: digestOf(TAR), size: 1 }, options),
    ).rejects.toThrow(corrupt(/layer 1 of 1/));
  });

  it('stops when it is told to', async () => {
    const reason = new Error('enough');
    await expect(read(gzipSync(TAR), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});
