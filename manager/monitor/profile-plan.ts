import type { Digest } from '#core/digest.ts';
import type { PackedFrame } from './profile-pack.ts';
import { grouped, type Piece } from './profile-pieces.ts';

/** What a node says that it has; see PrefetchStart in objects.proto. */
export interface Have {
  /** The first four bytes of digests, big-endian, ascending. */
  readonly objects: Buffer;
  /** By digest: a bit for each chunk. */
  readonly partial: ReadonlyMap<Digest, Uint8Array>;
}

/** The next frame to send: one that is prepared, or pieces that have to be read. */
export type Step =
  | { readonly packed: PackedFrame; readonly pieces: readonly Piece[] }
  | { readonly packed?: undefined; readonly pieces: readonly Piece[] };

const PREFIX_BYTES = 4;

/** Whether the node has the whole object. Digests that begin alike are taken for the same: then it is fetched when it is needed. */
function hasObject({ objects }: Have, digest: Digest): boolean {
  const wanted = Number.parseInt(digest.slice(0, 2 * PREFIX_BYTES), 16);
  let [low, high] = [0, Math.floor(objects.length / PREFIX_BYTES)];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const found = objects.readUInt32BE(middle * PREFIX_BYTES);
    if (found === wanted) return true;
    if (found < wanted) low = middle + 1;
    else high = middle;
  }
  return false;
}

/** Whether the node has the piece. */
export function has(have: Have, { digest, offset }: Piece, chunkSize: number): boolean {
  const chunk = Math.floor(offset / chunkSize);
  const bits = have.partial.get(digest);
  if (bits !== undefined && ((bits[chunk >>> 3] ?? 0) & (1 << (chunk & 7))) !== 0) return true;
  return hasObject(have, digest);
}

function keyOf({ digest, offset }: Piece): string {
  return `${digest}/${offset}`;
}

/**
 * What to send for these pieces, in their order as far as frames allow: prepared frames of which all is wanted as they are, the rest in frames to be made.
 */
export function planSteps(wanted: readonly Piece[], prepared: readonly PackedFrame[]): Step[] {
  const frameOf = new Map<string, PackedFrame>();
  const keys = new Set(wanted.map(keyOf));
  for (const frame of prepared) {
    if (!frame.pieces.every((piece) => keys.has(keyOf(piece)))) continue;
    for (const piece of frame.pieces) frameOf.set(keyOf(piece), frame);
  }
  const steps: Step[] = [];
  const sent = new Set<PackedFrame>();
  let loose: Piece[] = [];
  const flush = () => {
    for (const pieces of grouped(loose)) steps.push({ pieces });
    loose = [];
  };
  for (const piece of wanted) {
    const frame = frameOf.get(keyOf(piece));
    if (frame === undefined) loose.push(piece);
    if (frame === undefined || sent.has(frame)) continue;
    flush();
    sent.add(frame);
    steps.push({ packed: frame, pieces: frame.pieces });
  }
  flush();
  return steps;
}

/** Whether a pack is still good enough for a profile: few pieces too many, few too few. */
export function isFresh(wanted: readonly Piece[], prepared: readonly PackedFrame[]): boolean {
  const keys = new Set(wanted.map(keyOf));
  const there = prepared.flatMap(({ pieces }) => pieces);
  const common = there.filter((piece) => keys.has(keyOf(piece))).length;
  const slack = keys.size / 20;
  return keys.size - common <= slack && there.length - common <= slack;
}
