import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import type { Digest } from '#core/digest.ts';
import { isGearError } from '#core/errors.ts';
import type { ObjectStore } from '../store/object-store.ts';

const compress = promisify(zstdCompress);

/** A range of an object: one chunk of it. */
export interface Piece {
  readonly digest: Digest;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
}

/** Neighbours of a profile that are compressed together: their bytes one behind the other, or of nothing where the one piece cannot be read. */
export interface Frame {
  readonly pieces: readonly Piece[];
  readonly data: Buffer;
  readonly zstd: boolean;
  readonly missing: boolean;
}

/** A frame begins small, so that the first reader has its bytes soon; larger ones compress better. */
const FIRST_FRAME_BYTES = 256 * 1024;
const FRAME_BYTES = 1024 * 1024;
/** What does not get smaller than this is sent as it is. */
const WORTH_IT = 0.95;

export const LEVEL = {
  /** While somebody waits. */
  fast: 3,
  /** Done once and kept. */
  thorough: 15,
} as const;

/** Puts neighbours together. */
export function* grouped(pieces: Iterable<Piece>): Generator<Piece[], void, void> {
  let group: Piece[] = [];
  let bytes = 0;
  let limit = FIRST_FRAME_BYTES;
  for (const piece of pieces) {
    if (group.length > 0 && bytes + piece.length > limit) {
      yield group;
      limit = FRAME_BYTES;
      group = [];
      bytes = 0;
    }
    group.push(piece);
    bytes += piece.length;
  }
  if (group.length > 0) yield group;
}

/** The bytes of a piece; undefined where the store does not have all of them. */
async function readPiece(objects: ObjectStore, piece: Piece, signal: AbortSignal): Promise<Buffer | undefined> {
  const { digest, offset, length } = piece;
  try {
    const small = await objects.readSmall(digest, { offset, length });
    const bytes = small ?? Buffer.concat(await Array.fromAsync(objects.read(digest, { offset, length, signal })));
    return bytes.length === length ? bytes : undefined;
  } catch (error) {
    if (isGearError(error, 'not-found', 'out-of-range', 'corrupt')) return undefined;
    throw error;
  }
}

/** Reads pieces from the store and compresses them together; what cannot be read becomes a frame of its own. In order. */
export async function* framesOf(
  objects: ObjectStore,
  pieces: readonly Piece[],
  { level, signal }: { readonly level: number; readonly signal: AbortSignal },
): AsyncGenerator<Frame, void, void> {
  let good: { piece: Piece; bytes: Buffer }[] = [];
  const flush = async function* (): AsyncGenerator<Frame, void, void> {
    if (good.length > 0) yield await pack(good, level);
    good = [];
  };
  for (const piece of pieces) {
    signal.throwIfAborted();
    const bytes = await readPiece(objects, piece, signal);
    if (bytes !== undefined) {
      good.push({ piece, bytes });
      continue;
    }
    yield* flush();
    yield { pieces: [piece], data: Buffer.alloc(0), zstd: false, missing: true };
  }
  yield* flush();
}

async function pack(parts: readonly { piece: Piece; bytes: Buffer }[], level: number): Promise<Frame> {
  const pieces = parts.map(({ piece }) => piece);
  const raw = Buffer.concat(parts.map(({ bytes }) => bytes));
  const packed = await compress(raw, {
    params: { [constants.ZSTD_c_compressionLevel]: level },
    pledgedSrcSize: raw.length,
  });
  return packed.length < raw.length * WORTH_IT
    ? { pieces, data: packed, zstd: true, missing: false }
    : { pieces, data: raw, zstd: false, missing: false };
}
