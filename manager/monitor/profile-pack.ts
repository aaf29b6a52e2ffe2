import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { temporaryName } from '#core/atomic-file.ts';
import { parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { type Frame, framesOf, grouped, LEVEL, type Piece } from './profile-pieces.ts';

// A pack: the frames of one profile, compressed once and kept. First their bytes, then a JSON list of what they hold, then (16 bytes) the length of that as
// u32 little-endian, the version as the same, and "GEARPACK". It is a cache: whoever gets its bytes compares digests.

const MAGIC = Buffer.from('GEARPACK', 'latin1');
const VERSION = 1;
const FOOTER_BYTES = 16;
const MAX_LIST_BYTES = 64 * 1024 * 1024;

/** A frame that lies in a pack. */
export interface PackedFrame {
  readonly pieces: readonly Piece[];
  readonly at: number;
  readonly length: number;
  readonly zstd: boolean;
}

type Row = [at: number, length: number, zstd: 0 | 1, pieces: [digest: string, offset: number, length: number][]];

/** The prepared content of a profile. */
export class Pack implements AsyncDisposable {
  readonly frames: readonly PackedFrame[];
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle, frames: readonly PackedFrame[]) {
    this.#handle = handle;
    this.frames = frames;
  }

  /** Throws the file's error, or corrupt. */
  static async open(path: string): Promise<Pack> {
    await using stack = new AsyncDisposableStack();
    const handle = stack.use(await open(path, 'r'));
    const { size } = await handle.stat();
    const footer = await exactly(handle, path, size - FOOTER_BYTES, FOOTER_BYTES);
    const length = footer.readUInt32LE(0);
    const known = footer.readUInt32LE(4) === VERSION && footer.subarray(8).equals(MAGIC);
    if (!known || length > MAX_LIST_BYTES) throw damaged(path);
    const end = size - FOOTER_BYTES - length;
    const list = await exactly(handle, path, end, length);
    const frames = readList(list, end, path);
    stack.move();
    return new Pack(handle, frames);
  }

  /** Of all frames. */
  get bytes(): number {
    return this.frames.reduce((sum, { length }) => sum + length, 0);
  }

  async read({ at, length, pieces, zstd }: PackedFrame): Promise<Frame> {
    return { pieces, data: await exactly(this.#handle, 'pack', at, length), zstd, missing: false };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** Makes the pack of these pieces at `path`, over the one that is there. What the store lacks is left out. */
export async function writePack(
  path: string,
  objects: ObjectStore,
  pieces: readonly Piece[],
  signal: AbortSignal,
): Promise<void> {
  const temporary = join(dirname(path), temporaryName());
  await using undo = new AsyncDisposableStack();
  undo.defer(async () => await rm(temporary, { force: true }));
  {
    await using handle = await open(temporary, 'wx', 0o644);
    const rows: Row[] = [];
    let at = 0;
    for (const group of grouped(pieces)) {
      for await (const frame of framesOf(objects, group, { level: LEVEL.thorough, signal })) {
        if (frame.missing) continue;
        await handle.writeFile(frame.data);
        const parts = frame.pieces.map(({ digest, offset, length }): [string, number, number] => [
          digest,
          offset,
          length,
        ]);
        rows.push([at, frame.data.length, frame.zstd ? 1 : 0, parts]);
        at += frame.data.length;
      }
    }
    const list = Buffer.from(JSON.stringify(rows));
    const footer = Buffer.alloc(FOOTER_BYTES);
    footer.writeUInt32LE(list.length, 0);
    footer.writeUInt32LE(VERSION, 4);
    MAGIC.copy(footer, 8);
    await handle.writeFile(Buffer.concat([list, footer]));
  }
  await rename(temporary, path);
  undo.move();
}

function readList(list: Buffer, end: number, path: string): PackedFrame[] {
  try {
    return (JSON.parse(list.toString('latin1')) as Row[]).map(([at, length, zstd, parts]) => {
      if (!(at >= 0 && length > 0 && at + length <= end)) throw damaged(path);
      const pieces = parts.map(([digest, offset, bytes]) => ({ digest: parseDigest(digest), offset, length: bytes }));
      return { pieces, at, length, zstd: zstd === 1 };
    });
  } catch (error) {
    throw damaged(path, error);
  }
}

async function exactly(handle: FileHandle, path: string, at: number, length: number): Promise<Buffer> {
  if (at < 0) throw damaged(path);
  const bytes = Buffer.allocUnsafe(length);
  const { bytesRead } = await handle.read(bytes, 0, length, at);
  if (bytesRead !== length) throw damaged(path);
  return bytes;
}

function damaged(path: string, cause?: unknown): GearError {
  return new GearError('corrupt', `${path}: damaged; it will be made again`, { cause });
}
