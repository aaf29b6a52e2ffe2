import { readTar, type TarEntry, type TarLimits } from '#core/tar/reader.ts';

/** A stream of `bytes` in pieces of `size`. */
export async function* pieces(bytes: Uint8Array, size = 64 * 1024): AsyncGenerator<Buffer> {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < all.length; at += size) yield all.subarray(at, at + size);
}

export interface ReadEntry extends Omit<TarEntry, 'content'> {
  readonly body: Buffer;
}

/** All entries of a tar with their contents. */
export async function readAll(
  bytes: Uint8Array,
  { size, limits }: { size?: number; limits?: Partial<TarLimits> } = {},
): Promise<ReadEntry[]> {
  const entries: ReadEntry[] = [];
  for await (const { content, ...header } of readTar(pieces(bytes, size), limits === undefined ? {} : { limits })) {
    const parts: Buffer[] = [];
    for await (const part of content) parts.push(part);
    entries.push({ ...header, body: Buffer.concat(parts) });
  }
  return entries;
}
