import { type Digest, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError, messageOf } from '#core/errors.ts';
import { MAX_ITEMS, Profile, type ProfileItem } from './profile.ts';

const VERSION = 1;
const MAX_CHUNK_SIZE = 64 * 1024 * 1024;

/** A profile as the JSON of profiles/<image>.json: an item is [digest, chunk, bytes, seen, skipped, milliseconds]. */
export function encodeProfile(profile: Profile): string {
  const items = profile
    .items()
    .map(({ digest, chunk, bytes, seen, skipped, milliseconds }) => [
      digest,
      chunk,
      bytes,
      seen,
      skipped,
      Math.round(milliseconds),
    ]);
  const { image, chunkSize, runs, inheritedFrom, updatedAt } = profile;
  const facts = {
    version: VERSION,
    image: ociDigest(image),
    chunkSize,
    runs,
    inheritedFrom: inheritedFrom === undefined ? null : ociDigest(inheritedFrom),
    updatedAt,
  };
  return `${JSON.stringify({ ...facts, items })}\n`;
}

/** Reads such a JSON; `path` names it. Throws corrupt, and unsupported for another version. */
export function decodeProfile(text: string, path: string): Profile {
  try {
    const json = JSON.parse(text) as Record<string, unknown>;
    if (json['version'] !== VERSION) {
      throw new GearError('unsupported', `${path}: version ${String(json['version'])} of a profile is not known here`);
    }
    const items = json['items'];
    if (!Array.isArray(items) || items.length > MAX_ITEMS) throw new Error('its items are no list, or too long a one');
    const facts = {
      image: parseDigest(String(json['image'])),
      chunkSize: count(json['chunkSize'], MAX_CHUNK_SIZE),
      runs: count(json['runs']),
      inheritedFrom: json['inheritedFrom'] === null ? undefined : parseDigest(String(json['inheritedFrom'])),
      updatedAt: count(json['updatedAt']),
    };
    if (facts.chunkSize === 0) throw new Error('chunks of no bytes');
    return new Profile(
      facts,
      items.map((item) => itemOf(item, facts.chunkSize)),
    );
  } catch (error) {
    if (error instanceof GearError && error.code === 'unsupported') throw error;
    throw new GearError('corrupt', `${path}: ${messageOf(error)}`, { cause: error });
  }
}

function itemOf(value: unknown, chunkSize: number): ProfileItem {
  if (!Array.isArray(value) || value.length !== 6) throw new Error('an item has not six parts');
  const [digest, chunk, bytes, seen, skipped, milliseconds] = value as unknown[];
  const size = count(bytes, chunkSize);
  if (size === 0) throw new Error('an item has no bytes');
  return {
    digest: parseDigest(String(digest)) satisfies Digest,
    chunk: count(chunk, 2 ** 31),
    bytes: size,
    seen: amount(seen),
    skipped: amount(skipped),
    milliseconds: count(milliseconds),
  };
}

function count(value: unknown, most = Number.MAX_SAFE_INTEGER): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0 || (value as number) > most) {
    throw new Error(`${JSON.stringify(value)} where a whole number up to ${most} belongs`);
  }
  return value as number;
}

function amount(value: unknown): number {
  if (typeof value !== 'number' || !(value >= 0) || value > 1e6)
    throw new Error(`${JSON.stringify(value)} runs are none`);
  return value;
}
