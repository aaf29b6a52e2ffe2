import type { ByteString } from '../index/tree.ts';
import { BadNumber, parseNumber, parseOctal } from './number.ts';

export const BLOCK = 512;

/**
 * The fields of a header block, byte offsets and lengths. Sources: POSIX.1-2017 pax ("ustar Interchange Format"), GNU tar's manual ("Basic Tar
 * Format"). The old v7 header ends with the link name; GNU uses the bytes of `prefix` for other things.
 */
const FIELD = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  link: [157, 100],
  magic: [257, 8],
  major: [329, 8],
  minor: [337, 8],
  prefix: [345, 155],
} as const;

const USTAR_MAGIC = 'ustar\0';
const GNU_MAGIC = 'ustar  \0';

export type HeaderFormat = 'v7' | 'ustar' | 'gnu';

/** One header block, read but not interpreted. */
export interface RawHeader {
  readonly format: HeaderFormat;
  name: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  /** The type flag as a character. */
  readonly type: string;
  readonly link: ByteString;
  readonly major: number;
  readonly minor: number;
}

/** What is wrong with a header block; `message` names the field. */
export class BadHeader extends Error {
  override readonly name = 'BadHeader';
}

/** Takes a block of 512 bytes whose checksum was verified. Throws BadHeader. */
export function parseHeader(block: Buffer): RawHeader {
  const magic = block.toString('latin1', FIELD.magic[0], FIELD.magic[0] + FIELD.magic[1]);
  const format = magic === GNU_MAGIC ? 'gnu' : magic.startsWith(USTAR_MAGIC) ? 'ustar' : 'v7';
  const name = readText(block, FIELD.name);
  const prefix = format === 'ustar' ? readText(block, FIELD.prefix) : '';
  const type = block.toString('latin1', FIELD.type[0], FIELD.type[0] + 1);
  // Only a device's numbers have a meaning, and old tars leave rubbish there.
  const isDevice = type === '3' || type === '4';
  return {
    format,
    name: prefix === '' ? name : `${prefix}/${name}`,
    mode: number(block, 'mode') & 0o7777,
    uid: number(block, 'uid'),
    gid: number(block, 'gid'),
    size: number(block, 'size'),
    mtime: number(block, 'mtime'),
    type,
    link: readText(block, FIELD.link),
    major: isDevice ? number(block, 'major') : 0,
    minor: isDevice ? number(block, 'minor') : 0,
  };
}

/** Whether the block's checksum is right: the sum of all bytes, its own field taken as spaces; some old tars added signed bytes. */
export function hasValidChecksum(block: Buffer): boolean {
  let expected: number;
  try {
    expected = parseOctal(block, FIELD.checksum[0], FIELD.checksum[1]);
  } catch (error) {
    if (error instanceof BadNumber) return false;
    throw error;
  }
  let sum = 0;
  let high = 0;
  for (let at = 0; at < BLOCK; at++) {
    const byte = block[at] as number;
    sum += byte;
    high += byte >> 7;
  }
  for (let at = FIELD.checksum[0]; at < FIELD.checksum[0] + FIELD.checksum[1]; at++) {
    const byte = block[at] as number;
    sum += 0x20 - byte;
    high -= byte >> 7;
  }
  return sum === expected || sum - 256 * high === expected;
}

/** Whether the block is all zeros: two such blocks end a tar. */
export function isZeroBlock(block: Buffer): boolean {
  return block[0] === 0 && block.equals(ZERO_BLOCK);
}

/** The ustar block for these fields, each of which must fit. */
export function encodeHeader(header: Omit<RawHeader, 'format'>): Buffer {
  const block = Buffer.alloc(BLOCK);
  text(block, FIELD.name, header.name);
  octal(block, FIELD.mode, header.mode);
  octal(block, FIELD.uid, header.uid);
  octal(block, FIELD.gid, header.gid);
  octal(block, FIELD.size, header.size);
  octal(block, FIELD.mtime, header.mtime);
  text(block, FIELD.type, header.type);
  text(block, FIELD.link, header.link);
  text(block, FIELD.magic, `${USTAR_MAGIC}00`);
  octal(block, FIELD.major, header.major);
  octal(block, FIELD.minor, header.minor);
  block.fill(0x20, FIELD.checksum[0], FIELD.checksum[0] + FIELD.checksum[1]);
  let sum = 0;
  for (const byte of block) sum += byte;
  text(block, FIELD.checksum, `${sum.toString(8).padStart(6, '0')}\0 `);
  return block;
}

/** The largest value that a field holds in octal, with its closing NUL. */
export function octalLimit(field: 'mode' | 'uid' | 'gid' | 'size' | 'mtime' | 'major' | 'minor'): number {
  return 8 ** (FIELD[field][1] - 1) - 1;
}

export const NAME_BYTES = FIELD.name[1];

const ZERO_BLOCK = Buffer.alloc(BLOCK);

function octal(block: Buffer, [offset, length]: readonly [number, number], value: number): void {
  block.write(value.toString(8).padStart(length - 1, '0'), offset, length - 1, 'latin1');
}

function text(block: Buffer, [offset, length]: readonly [number, number], value: ByteString): void {
  block.write(value, offset, length, 'latin1');
}

function readText(block: Buffer, [offset, length]: readonly [number, number]): ByteString {
  const value = block.toString('latin1', offset, offset + length);
  const end = value.indexOf('\0');
  return end === -1 ? value : value.slice(0, end);
}

function number(block: Buffer, name: 'mode' | 'uid' | 'gid' | 'size' | 'mtime' | 'major' | 'minor'): number {
  try {
    return parseNumber(block, FIELD[name][0], FIELD[name][1]);
  } catch (error) {
    if (error instanceof BadNumber) throw new BadHeader(`its ${name} ${error.message}`);
    throw error;
  }
}
