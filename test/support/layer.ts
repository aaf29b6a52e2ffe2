import { ChunkHasher } from '#core/index/chunks.ts';
import { layerFromTar, type ObjectSink } from '#core/index/layer.ts';
import type { IndexLimits } from '#core/index/limits.ts';
import { type Inode, type Tree, walk } from '#core/index/tree.ts';
import { readTar } from '#core/tar/reader.ts';
import { pieces } from './tar-read.ts';

export const CHUNK_SIZE = 4096;

/** Keeps contents in memory, by digest. */
export class MemorySink implements ObjectSink {
  readonly contents = new Map<string, Buffer>();

  async add(content: AsyncIterable<Buffer>) {
    const bytes = Buffer.concat(await Array.fromAsync(content));
    const digests = new ChunkHasher(CHUNK_SIZE).update(bytes).digests();
    this.contents.set(digests.digest, bytes);
    return digests;
  }
}

/** The tree of a layer's tar. */
export async function layerOf(
  tar: Buffer,
  { lower, limits, sink = new MemorySink() }: { lower?: Tree; limits?: Partial<IndexLimits>; sink?: ObjectSink } = {},
): Promise<{ tree: Tree; warnings: string[] }> {
  return await layerFromTar(readTar(pieces(tar)), sink, {
    chunkSize: CHUNK_SIZE,
    ...(lower === undefined ? {} : { lower }),
    ...(limits === undefined ? {} : { limits }),
  });
}

/** One word for each path: what it is, and "=path" where it is another name of an earlier one. */
export function outline(tree: Tree): Record<string, string> {
  const seen = new Map<Inode, string>();
  const lines: Record<string, string> = {};
  for (const { path, inode } of walk(tree.root)) {
    const earlier = seen.get(inode);
    if (earlier === undefined) seen.set(inode, path);
    lines[path] = earlier === undefined ? describe(inode) : `=${earlier}`;
  }
  return lines;
}

function describe(inode: Inode): string {
  switch (inode.type) {
    case 'directory':
      return `${inode.opaque ? 'opaque' : 'dir'} ${inode.mode.toString(8)}${inode.implied === true ? ' implied' : ''}`;
    case 'file':
      return `file ${inode.mode.toString(8)} ${inode.size}`;
    case 'symlink':
      return `-> ${inode.target}`;
    default:
      return inode.type;
  }
}
