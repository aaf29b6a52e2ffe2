import { GearError } from '../errors.ts';
import type { ByteString } from '../index/tree.ts';
import { DEFAULT_TAR_LIMITS, overLimit, type TarLimits } from './limits.ts';

export const WHITEOUT_PREFIX = '.wh.';
/** Names that aufs keeps for itself begin so; one of them is the opaque marker. */
const INTERNAL_PREFIX = '.wh..wh.';
export const OPAQUE_MARKER = '.wh..wh..opq';

/** A path for people: the bytes as UTF-8 in double quotes, what is not printable escaped, long ones shortened. */
export function showPath(path: ByteString): string {
  const text = Buffer.from(path.length > 300 ? `${path.slice(0, 300)}...` : path, 'latin1').toString('utf8');
  return JSON.stringify(text);
}

/**
 * The components of a path in a tar, relative to the root: without ".", empty ones and slashes in front. The root itself has none.
 * Throws invalid-argument on "..", on NUL and on what is longer than Linux allows, resource-exhausted on what is too deep.
 */
export function splitPath(
  raw: ByteString,
  limits: Pick<TarLimits, 'pathBytes' | 'nameBytes' | 'depth'> = DEFAULT_TAR_LIMITS,
): ByteString[] {
  if (raw.length > limits.pathBytes) throw invalid(raw, `has ${raw.length} bytes, more than ${limits.pathBytes}`);
  if (raw.includes('\0')) throw invalid(raw, 'contains a NUL byte');
  const components: ByteString[] = [];
  for (const name of raw.split('/')) {
    if (name === '' || name === '.') continue;
    if (name === '..') throw invalid(raw, 'contains ".."');
    if (name.length > limits.nameBytes) {
      throw invalid(raw, `has a name of ${name.length} bytes, more than ${limits.nameBytes}`);
    }
    components.push(name);
  }
  if (components.length > limits.depth) {
    throw overLimit('depth', limits.depth, `the path ${showPath(raw)} has ${components.length} components`);
  }
  return components;
}

/** What a name in a layer's tar says about the layers below. */
export type WhiteoutTarget =
  /** The sibling `name` is deleted. */
  | { readonly kind: 'whiteout'; readonly name: ByteString }
  /** Everything that the layers below have in this directory is hidden. */
  | { readonly kind: 'opaque' }
  /** aufs's own bookkeeping (".wh..wh.plnk", ".wh..wh.aufs"): never part of the tree. */
  | { readonly kind: 'internal' };

/**
 * The meaning of the last component of a path; undefined for an ordinary name. Throws invalid-argument where the marker names nothing
 * (".wh.", ".wh..", ".wh...").
 * Source: the OCI image specification, layer.md, "Whiteouts".
 */
export function whiteoutTarget(name: ByteString): WhiteoutTarget | undefined {
  if (!name.startsWith(WHITEOUT_PREFIX)) return undefined;
  if (name === OPAQUE_MARKER) return { kind: 'opaque' };
  if (name.startsWith(INTERNAL_PREFIX)) return { kind: 'internal' };
  const target = name.slice(WHITEOUT_PREFIX.length);
  if (target === '' || target === '.' || target === '..') {
    throw new GearError('invalid-argument', `the whiteout ${showPath(name)} names nothing that could be deleted`);
  }
  return { kind: 'whiteout', name: target };
}

function invalid(path: ByteString, problem: string): GearError {
  return new GearError('invalid-argument', `the path ${showPath(path)} ${problem}`);
}
