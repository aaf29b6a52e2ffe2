import type { ByteString } from '../index/tree.ts';
import { BadHeader } from './header.ts';
import { overLimit, type TarLimits } from './limits.ts';
import { BadNumber, parseDecimal, parseTime } from './number.ts';
import type { Region } from './sparse.ts';

/** What a PAX header says of the next entry. */
export interface PaxOverrides {
  path?: ByteString;
  link?: ByteString;
  size?: number;
  uid?: number;
  gid?: number;
  mtime?: { seconds: number; nanoseconds: number };
  xattrs?: Map<ByteString, Buffer>;
  sparse?: PaxSparse;
}

/** The GNU.sparse.* records. Versions: 0.0 repeats offset and numbytes, 0.1 has one map, 1.0 has the map in front of the data. */
export interface PaxSparse {
  major?: number;
  minor?: number;
  name?: ByteString;
  size?: number;
  map?: Region[];
  /** An offset (version 0.0) that waits for its numbytes. */
  offset?: number | undefined;
}

const SCHILY_XATTR = 'SCHILY.xattr.';
const LIBARCHIVE_XATTR = 'LIBARCHIVE.xattr.';

/**
 * The records of a PAX header: "LENGTH KEY=VALUE\n", LENGTH being the decimal count of all of it. Values are bytes: an attribute's
 * value may be binary. An empty value takes back what an earlier record said. Throws BadHeader, or resource-exhausted over a limit.
 * Source: POSIX.1-2017 pax, "pax Header Block".
 */
export function parsePax(data: Buffer, limits: TarLimits, what: string): PaxOverrides {
  const overrides: PaxOverrides = {};
  const xattrs = new XattrCollector(limits, what);
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(0x20, at);
    if (space === -1 || space === at || space - at > 9) throw new BadHeader('a PAX record has no length');
    const length = number('a PAX record: its length', () => parseDecimal(data.toString('latin1', at, space)));
    const end = at + length;
    if (end > data.length || end <= space + 1 || data[end - 1] !== 0x0a) {
      throw new BadHeader('a PAX record does not end where its length says');
    }
    const equals = data.indexOf(0x3d, space + 1);
    if (equals === -1 || equals >= end) throw new BadHeader('a PAX record has no "="');
    const key = data.toString('latin1', space + 1, equals);
    const value = data.subarray(equals + 1, end - 1);
    at = end;
    if (key.startsWith(SCHILY_XATTR)) xattrs.schily(key.slice(SCHILY_XATTR.length), value);
    else if (key.startsWith(LIBARCHIVE_XATTR)) xattrs.libarchive(key.slice(LIBARCHIVE_XATTR.length), value);
    else if (key.startsWith('GNU.sparse.')) {
      overrides.sparse ??= {};
      sparseRecord(overrides.sparse, key.slice(11), value, limits, what);
    } else record(overrides, key, value);
  }
  const found = xattrs.result();
  if (found !== undefined) overrides.xattrs = found;
  return overrides;
}

function record(overrides: PaxOverrides, key: string, value: Buffer): void {
  switch (key) {
    case 'path':
      assign(overrides, 'path', value, bytes);
      break;
    case 'linkpath':
      assign(overrides, 'link', value, bytes);
      break;
    case 'size':
      assign(overrides, 'size', value, (text) => number('its PAX size', () => parseDecimal(text)));
      break;
    case 'uid':
      assign(overrides, 'uid', value, (text) => number('its PAX uid', () => parseDecimal(text)));
      break;
    case 'gid':
      assign(overrides, 'gid', value, (text) => number('its PAX gid', () => parseDecimal(text)));
      break;
    case 'mtime':
      assign(overrides, 'mtime', value, (text) => number('its PAX mtime', () => parseTime(text)));
      break;
    default:
    // uname, atime, hdrcharset, comment and vendors' own: nothing that an image keeps.
  }
}

function assign<K extends keyof PaxOverrides>(
  overrides: PaxOverrides,
  key: K,
  value: Buffer,
  parse: (text: string) => NonNullable<PaxOverrides[K]>,
): void {
  if (value.length === 0) delete overrides[key];
  else overrides[key] = parse(value.toString('latin1'));
}

function sparseRecord(sparse: PaxSparse, key: string, value: Buffer, limits: TarLimits, what: string): void {
  const text = value.toString('latin1');
  const decimal = () => number(`its GNU.sparse.${key}`, () => parseDecimal(text));
  switch (key) {
    case 'major':
      sparse.major = decimal();
      break;
    case 'minor':
      sparse.minor = decimal();
      break;
    case 'name':
      sparse.name = bytes(text);
      break;
    case 'size':
    case 'realsize':
      sparse.size = decimal();
      break;
    case 'offset':
      if (sparse.offset !== undefined)
        throw new BadHeader('it has two GNU.sparse.offset and no GNU.sparse.numbytes between');
      sparse.offset = decimal();
      break;
    case 'numbytes': {
      if (sparse.offset === undefined) throw new BadHeader('it has a GNU.sparse.numbytes without GNU.sparse.offset');
      sparse.map ??= [];
      const { map } = sparse;
      if (map.length >= limits.sparseRegions)
        throw overLimit('sparseRegions', limits.sparseRegions, `${what} has more data regions`);
      map.push({ offset: sparse.offset, length: decimal() });
      sparse.offset = undefined;
      break;
    }
    case 'map': {
      const numbers = text === '' ? [] : text.split(',');
      if (numbers.length % 2 !== 0) throw new BadHeader('its GNU.sparse.map has an offset without a length');
      if (numbers.length / 2 > limits.sparseRegions) {
        throw overLimit('sparseRegions', limits.sparseRegions, `${what} has ${numbers.length / 2} data regions`);
      }
      sparse.map = [];
      for (let at = 0; at < numbers.length; at += 2) {
        sparse.map.push({
          offset: number('its GNU.sparse.map', () => parseDecimal(numbers[at] as string)),
          length: number('its GNU.sparse.map', () => parseDecimal(numbers[at + 1] as string)),
        });
      }
      break;
    }
    default:
    // numblocks only repeats how long the map is.
  }
}

/** Collects the attributes of one header. What SCHILY says wins: bsdtar writes each attribute both ways. */
class XattrCollector {
  readonly #limits: TarLimits;
  readonly #what: string;
  #schily: Map<ByteString, Buffer> | undefined;
  #libarchive: Map<ByteString, Buffer> | undefined;

  constructor(limits: TarLimits, what: string) {
    this.#limits = limits;
    this.#what = what;
  }

  /** The value is the bytes themselves; GNU tar writes "=" and "%" in names as "%3D" and "%25". */
  schily(key: string, value: Buffer): void {
    const name = key.replaceAll('%3D', '=').replaceAll('%25', '%');
    this.#schily ??= new Map();
    this.#add(this.#schily, name, Buffer.from(value));
  }

  /** libarchive writes the name URL-encoded and the value in base64. */
  libarchive(key: string, value: Buffer): void {
    const name = key.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
    const text = value.toString('latin1');
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text))
      throw new BadHeader(`its attribute ${JSON.stringify(name)} is not base64`);
    this.#libarchive ??= new Map();
    this.#add(this.#libarchive, name, Buffer.from(text, 'base64'));
  }

  result(): Map<ByteString, Buffer> | undefined {
    if (this.#libarchive === undefined) return this.#schily;
    const all = this.#libarchive;
    for (const [name, value] of this.#schily ?? []) all.set(name, value);
    this.#checkCount(all);
    return all;
  }

  #add(map: Map<ByteString, Buffer>, name: ByteString, value: Buffer): void {
    const { xattrNameBytes, xattrBytes } = this.#limits;
    if (name === '' || name.includes('\0'))
      throw new BadHeader('it has an extended attribute with an empty name or a NUL in it');
    if (name.length > xattrNameBytes) {
      throw overLimit('xattrNameBytes', xattrNameBytes, `${this.#what} has an attribute name of ${name.length} bytes`);
    }
    if (value.length > xattrBytes) {
      throw overLimit(
        'xattrBytes',
        xattrBytes,
        `${this.#what}: the attribute ${JSON.stringify(name)} has ${value.length} bytes`,
      );
    }
    map.set(name, value);
    this.#checkCount(map);
  }

  #checkCount(map: Map<ByteString, Buffer>): void {
    if (map.size > this.#limits.xattrs) {
      throw overLimit('xattrs', this.#limits.xattrs, `${this.#what} has more extended attributes`);
    }
  }
}

function bytes(text: string): ByteString {
  if (text.includes('\0')) throw new BadHeader('a name in its PAX header contains a NUL byte');
  return text;
}

function number<T>(what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof BadNumber) throw new BadHeader(`${what} ${error.message}`);
    throw error;
  }
}
