import { type Digest, ociDigest, parseDigest } from '../digest.ts';
import { GearError } from '../errors.ts';
import type { ByteString } from './tree.ts';

/** The folder that a Gear layer holds, and the two files in it. */
export const GEAR_FOLDER: ByteString = '.gear';
export const DESCRIPTOR_PATH: ByteString = `${GEAR_FOLDER}/descriptor.json`;
export const INDEX_PATH: ByteString = `${GEAR_FOLDER}/index`;

/** A descriptor is a few hundred bytes; more than this is none. */
export const MAX_DESCRIPTOR_BYTES = 4096;
/** Chunk sizes that are accepted, in bytes: powers of two in this range. */
const CHUNK_SIZES = { min: 4096, max: 64 * 1024 * 1024 };

/** What `.gear/descriptor.json` says about the index beside it. Sizes in bytes. */
export interface Descriptor {
  readonly version: 1;
  readonly index: { readonly digest: Digest; readonly size: number };
  /** Of the manifest that was converted. */
  readonly source: { readonly digest: Digest };
  readonly chunkSize: number;
  /** Names in the tree. */
  readonly entries: number;
  /** Distinct objects, and their bytes. */
  readonly objects: number;
  readonly bytes: number;
}

/** The bytes of `.gear/descriptor.json`: always the same for the same descriptor. */
export function encodeDescriptor({ index, source, chunkSize, entries, objects, bytes }: Descriptor): Buffer {
  const value = {
    version: 1,
    index: { digest: ociDigest(index.digest), size: index.size },
    source: { digest: ociDigest(source.digest) },
    chunkSize,
    entries,
    objects,
    bytes,
  };
  return Buffer.from(`${JSON.stringify(value)}\n`);
}

function refuse(why: string, cause?: unknown): never {
  throw new GearError('corrupt', `Gear descriptor: ${why}`, { cause });
}

function objectWith(value: unknown, what: string, keys: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse(`${what} is not an object`);
  const unknown = Object.keys(value).find((key) => !keys.includes(key));
  if (unknown !== undefined) return refuse(`${what} has an unknown field ${JSON.stringify(unknown.slice(0, 100))}`);
  return value as Record<string, unknown>;
}

function count(value: unknown, what: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    return refuse(`${what} is not a whole number`);
  }
  return value;
}

function digest(value: unknown, what: string): Digest {
  if (typeof value !== 'string' || !value.startsWith('sha256:')) return refuse(`${what} is not "sha256:..."`);
  try {
    return parseDigest(value);
  } catch (error) {
    return refuse(`${what} is not a sha256 digest`, error);
  }
}

/**
 * Reads the bytes of `.gear/descriptor.json`. Throws unsupported for another version, and corrupt for anything that `encodeDescriptor` would not
 * have written (other white space and another order of fields are accepted).
 */
export function parseDescriptor(bytes: Uint8Array): Descriptor {
  if (bytes.length > MAX_DESCRIPTOR_BYTES) refuse(`${bytes.length} bytes are too many`);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    refuse('not JSON', error);
  }
  const version = typeof json === 'object' && json !== null && 'version' in json ? json.version : undefined;
  if (typeof version === 'number' && version !== 1) {
    throw new GearError('unsupported', `Gear descriptor: version ${version} is not known here; version 1 is`);
  }
  const value = objectWith(json, 'it', ['version', 'index', 'source', 'chunkSize', 'entries', 'objects', 'bytes']);
  if (version !== 1) refuse('it has no version');
  const index = objectWith(value['index'], '"index"', ['digest', 'size']);
  const source = objectWith(value['source'], '"source"', ['digest']);
  const chunkSize = count(value['chunkSize'], '"chunkSize"');
  if (chunkSize < CHUNK_SIZES.min || chunkSize > CHUNK_SIZES.max || !Number.isInteger(Math.log2(chunkSize))) {
    refuse(`a chunk size of ${chunkSize} bytes is not a power of two from ${CHUNK_SIZES.min} to ${CHUNK_SIZES.max}`);
  }
  return {
    version: 1,
    index: { digest: digest(index['digest'], '"index.digest"'), size: count(index['size'], '"index.size"') },
    source: { digest: digest(source['digest'], '"source.digest"') },
    chunkSize,
    entries: count(value['entries'], '"entries"'),
    objects: count(value['objects'], '"objects"'),
    bytes: count(value['bytes'], '"bytes"'),
  };
}
