import type { ByteReader } from './byte-reader.ts';
import { BadHeader, BLOCK } from './header.ts';
import { overLimit, type TarLimits } from './limits.ts';
import { BadNumber, parseDecimal, parseNumber } from './number.ts';

/** Where a sparse file has data, in bytes; everything between is a hole. */
export interface Region {
  readonly offset: number;
  readonly length: number;
}

/** A sparse file's map, and how many bytes of data follow in the tar. */
export interface SparseMap {
  readonly regions: readonly Region[];
  readonly realSize: number;
  readonly dataSize: number;
}

/**
 * The map of a GNU sparse entry (type "S"): four regions in the header, the real size, and blocks of 21 more regions each.
 * Source: GNU tar's manual, "Old GNU Format" (struct oldgnu_header, struct sparse_header).
 */
export async function readGnuSparseMap(
  block: Buffer,
  dataSize: number,
  reader: ByteReader,
  limits: TarLimits,
): Promise<SparseMap> {
  const regions: Region[] = [];
  const realSize = field(block, 483);
  readRegions(block, 386, 4, regions);
  let extended = block[482] !== 0;
  while (extended) {
    const next = await reader.take(BLOCK);
    if (next.length < BLOCK) throw new BadHeader('the tar ends in its sparse map');
    readRegions(next, 0, 21, regions);
    extended = next[504] !== 0;
    checkCount(regions.length, limits);
  }
  return checked(regions, realSize, dataSize);
}

/**
 * The map of a PAX sparse entry, version 1.0: decimal numbers, one a line, in blocks in front of the data: how many regions, then
 * offset and length of each. Source: GNU tar's manual, "PAX Format, Version 1.0".
 */
export async function readPaxSparseMap(
  realSize: number,
  dataSize: number,
  reader: ByteReader,
  limits: TarLimits,
): Promise<SparseMap> {
  let text = '';
  let at = 0;
  let left = dataSize;
  const nextNumber = async (): Promise<number> => {
    for (let end = text.indexOf('\n', at); ; end = text.indexOf('\n', at)) {
      if (end !== -1) {
        const line = text.slice(at, end);
        at = end + 1;
        return decimal(line);
      }
      if (text.length - at > 20) throw new BadHeader('its sparse map has a number without an end');
      const block = left < BLOCK ? Buffer.alloc(0) : await reader.take(BLOCK);
      if (block.length < BLOCK) throw new BadHeader('its content ends in its sparse map');
      left -= BLOCK;
      text = text.slice(at) + block.toString('latin1');
      at = 0;
    }
  };
  const count = await nextNumber();
  checkCount(count, limits);
  const regions: Region[] = [];
  for (let index = 0; index < count; index++) regions.push({ offset: await nextNumber(), length: await nextNumber() });
  return checked(regions, realSize, left);
}

/** Checks a map that was read: regions ascend, do not overlap, lie in the file, and are as long together as the data. Throws BadHeader. */
export function checked(regions: readonly Region[], realSize: number, dataSize: number): SparseMap {
  let end = 0;
  let data = 0;
  for (const region of regions) {
    if (region.offset < end) throw new BadHeader('its sparse map is not in order');
    end = region.offset + region.length;
    if (end > realSize) throw new BadHeader(`its sparse map goes to ${end}, but its size is ${realSize}`);
    data += region.length;
  }
  if (data !== dataSize) throw new BadHeader(`its sparse map counts ${data} bytes of data, but ${dataSize} follow`);
  return { regions: regions.filter((region) => region.length > 0), realSize, dataSize };
}

const ZEROS = Buffer.alloc(64 * 1024);

/** The whole file: the data that `next` gives piece by piece (at most so many bytes), zeros between. */
export async function* expand(
  map: SparseMap,
  next: (most: number) => Promise<Buffer>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  let position = 0;
  for (const region of [...map.regions, { offset: map.realSize, length: 0 }]) {
    while (position < region.offset) {
      signal?.throwIfAborted();
      const hole = ZEROS.subarray(0, Math.min(ZEROS.length, region.offset - position));
      position += hole.length;
      yield hole;
    }
    for (let left = region.length; left > 0; ) {
      const piece = await next(left);
      left -= piece.length;
      position += piece.length;
      yield piece;
    }
  }
}

function readRegions(block: Buffer, offset: number, count: number, regions: Region[]): void {
  for (let at = offset; at < offset + count * 24; at += 24) {
    // A region that starts with NUL is the end of the list; a real one has digits or a base-256 mark.
    if (block[at] === 0) return;
    regions.push({ offset: field(block, at), length: field(block, at + 12) });
  }
}

function field(block: Buffer, offset: number): number {
  return wrap(() => {
    const value = parseNumber(block, offset, 12);
    if (value < 0) throw new BadNumber(`${value} is negative`);
    return value;
  });
}

function decimal(text: string): number {
  return wrap(() => parseDecimal(text));
}

function wrap(parse: () => number): number {
  try {
    return parse();
  } catch (error) {
    if (error instanceof BadNumber) throw new BadHeader(`its sparse map: ${error.message}`);
    throw error;
  }
}

function checkCount(count: number, limits: TarLimits): void {
  if (count > limits.sparseRegions)
    throw overLimit('sparseRegions', limits.sparseRegions, `a sparse file has ${count} data regions`);
}
