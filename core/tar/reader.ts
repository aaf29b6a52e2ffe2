import type { Abortable } from '../abort.ts';
import { GearError } from '../errors.ts';
import type { ByteString } from '../index/tree.ts';
import { NO_XATTRS } from '../index/xattrs.ts';
import { ByteReader } from './byte-reader.ts';
import { EntryContent, NO_CONTENT } from './content.ts';
import type { TarEntry, TarEntryType } from './entry.ts';
import { BadHeader, BLOCK, hasValidChecksum, isZeroBlock, parseHeader, type RawHeader } from './header.ts';
import { DEFAULT_TAR_LIMITS, overLimit, type TarLimits } from './limits.ts';
import { showPath } from './path.ts';
import { type PaxOverrides, type PaxSparse, parsePax } from './pax.ts';
import { checked, readGnuSparseMap, readPaxSparseMap, type SparseMap } from './sparse.ts';

export type { TarEntry, TarEntryType, TarHeader } from './entry.ts';
export type { TarLimits } from './limits.ts';

/** Linux keeps -1 for "no such owner". */
const MAX_ID = 2 ** 32 - 2;

const TYPES: ReadonlyMap<string, TarEntryType> = new Map([
  ['0', 'file'],
  ['\0', 'file'],
  ['7', 'file'],
  ['S', 'file'],
  ['1', 'hard-link'],
  ['2', 'symlink'],
  ['3', 'character-device'],
  ['4', 'block-device'],
  ['5', 'directory'],
  ['6', 'fifo'],
]);

/** What extension headers say of the entry that follows. */
interface Extensions {
  pax: PaxOverrides;
  longName?: ByteString;
  longLink?: ByteString;
  count: number;
  /** Whether one of them needs an entry to follow; a global header does not. */
  ofEntry: boolean;
}

/**
 * The entries of an uncompressed tar (v7, ustar, PAX, GNU), streaming: nothing is kept but the current header. Reads the source to
 * its end, also past the two zero blocks that end the tar.
 *
 * Throws GearError: corrupt (truncated, bad checksum or field), unsupported (an unknown type), invalid-argument (what Linux cannot
 * have), resource-exhausted (over a limit). Errors name the entry.
 *
 * Global PAX headers ("g") are checked and have no effect, as in all engines that use Go's archive/tar: an image must look the same here.
 */
export async function* readTar(
  source: AsyncIterable<Uint8Array>,
  { limits, signal }: { limits?: Partial<TarLimits> } & Abortable = {},
): AsyncGenerator<TarEntry> {
  await using reader = new ByteReader(source, { signal });
  const parser = new Parser(reader, { ...DEFAULT_TAR_LIMITS, ...limits }, signal);
  for (let entry = await parser.next(); entry !== undefined; entry = await parser.next()) yield entry;
}

class Parser {
  readonly #reader: ByteReader;
  readonly #limits: TarLimits;
  readonly #signal: AbortSignal | undefined;
  #content: EntryContent | undefined;
  #entries = 0;
  #totalBytes = 0;
  #holeBytes = 0;
  #last = 'the beginning';

  constructor(reader: ByteReader, limits: TarLimits, signal: AbortSignal | undefined) {
    this.#reader = reader;
    this.#limits = limits;
    this.#signal = signal;
  }

  async next(): Promise<TarEntry | undefined> {
    await this.#content?.finish();
    this.#content = undefined;
    const extensions: Extensions = { pax: {}, count: 0, ofEntry: false };
    for (;;) {
      const block = await this.#headerBlock();
      if (block === undefined) {
        if (!extensions.ofEntry) return undefined;
        throw this.#corrupt('the tar ends after an extension header');
      }
      const header = this.#parse(block);
      if (!(await this.#extension(header, extensions))) return await this.#entry(header, block, extensions);
    }
  }

  /** The next header; undefined at the end of the tar. */
  async #headerBlock(): Promise<Buffer | undefined> {
    const start = this.#reader.position;
    const block = this.#reader.takeNow(BLOCK) ?? (await this.#reader.take(BLOCK));
    if (block.length === 0) return undefined;
    if (block.length < BLOCK) throw this.#corrupt(`the tar ends in a header, at byte ${start + block.length}`);
    if (!isZeroBlock(block)) return block;
    const second = await this.#reader.take(BLOCK);
    if (second.length === BLOCK && !isZeroBlock(second)) {
      throw this.#corrupt(`a zero block at byte ${start} is followed by something else`);
    }
    await this.#reader.drain();
    return undefined;
  }

  #parse(block: Buffer): RawHeader {
    const start = this.#reader.position - BLOCK;
    if (!hasValidChecksum(block)) throw this.#corrupt(`the header at byte ${start} has a wrong checksum`);
    try {
      return parseHeader(block);
    } catch (error) {
      if (error instanceof BadHeader) throw this.#corrupt(`the header at byte ${start}: ${error.message}`);
      throw error;
    }
  }

  /** Takes in an extension header; false if the header is an entry's own. */
  async #extension(header: RawHeader, extensions: Extensions): Promise<boolean> {
    const { type } = header;
    if (type !== 'x' && type !== 'g' && type !== 'L' && type !== 'K') return false;
    extensions.count++;
    extensions.ofEntry ||= type !== 'g';
    if (extensions.count > this.#limits.extensions) {
      throw overLimit('extensions', this.#limits.extensions, `more extension headers than that follow ${this.#last}`);
    }
    const what = `the extension header at byte ${this.#reader.position - BLOCK}`;
    const isPax = type === 'x' || type === 'g';
    // A long name comes with a NUL at its end.
    const allowed = isPax
      ? this.#limits.paxBytes
      : type === 'L'
        ? this.#limits.pathBytes + 1
        : this.#limits.linkBytes + 1;
    if (header.size < 0 || header.size > allowed) {
      throw overLimit(isPax ? 'paxBytes' : 'pathBytes', allowed, `${what} has ${header.size} bytes`);
    }
    const padded = header.size + (-header.size & (BLOCK - 1));
    const data = (await this.#reader.take(padded)).subarray(0, header.size);
    if (data.length < header.size) throw this.#corrupt(`the tar ends in ${what}`);
    if (isPax) {
      const pax = this.#wrap(what, () => parsePax(data, this.#limits, what));
      if (type === 'x') extensions.pax = pax;
    } else {
      const end = data.indexOf(0);
      const name = data.toString('latin1', 0, end === -1 ? data.length : end);
      if (type === 'L') extensions.longName = name;
      else extensions.longLink = name;
    }
    return true;
  }

  async #entry(header: RawHeader, block: Buffer, { pax, longName, longLink }: Extensions): Promise<TarEntry> {
    // An empty long name says nothing, as with Go's archive/tar.
    const path = longName || pax.sparse?.name || pax.path || header.name;
    const what = `the tar entry ${showPath(path)}`;
    if (++this.#entries > this.#limits.entries)
      throw overLimit('entries', this.#limits.entries, `${what} is one too many`);
    if (path.length > this.#limits.pathBytes) {
      throw overLimit('pathBytes', this.#limits.pathBytes, `${what} has a path of ${path.length} bytes`);
    }
    const dataSize = pax.size ?? header.size;
    const type = this.#type(header.type, path, dataSize, what);
    const isLink = type === 'symlink' || type === 'hard-link';
    const link = isLink ? longLink || pax.link || header.link : '';
    if (link.length > this.#limits.linkBytes) {
      throw overLimit('linkBytes', this.#limits.linkBytes, `${what} has a link target of ${link.length} bytes`);
    }
    const uid = checkId(pax.uid ?? header.uid, 'uid', what);
    const gid = checkId(pax.gid ?? header.gid, 'gid', what);
    // Everything that is no file has no content, whatever its size says (PAX allows hard links to repeat their file's).
    const content = type === 'file' ? await this.#open(header, block, pax.sparse, dataSize, what) : undefined;
    this.#content = content?.content;
    this.#last = what;
    return {
      path,
      type,
      mode: header.mode,
      uid,
      gid,
      mtimeSeconds: pax.mtime?.seconds ?? header.mtime,
      mtimeNanoseconds: pax.mtime?.nanoseconds ?? 0,
      size: content?.size ?? 0,
      link,
      major: header.major,
      minor: header.minor,
      xattrs: pax.xattrs ?? NO_XATTRS,
      content: content?.content ?? NO_CONTENT,
    };
  }

  #type(flag: string, path: ByteString, size: number, what: string): TarEntryType {
    const type = TYPES.get(flag);
    if (type === undefined) {
      throw new GearError('unsupported', `${what} has the type ${JSON.stringify(flag)}, which is not supported`);
    }
    // Before there was a type for directories, a slash said it.
    if (path.endsWith('/') && (flag === '\0' || (flag === '0' && size === 0))) return 'directory';
    return type;
  }

  async #open(
    header: RawHeader,
    block: Buffer,
    pax: PaxSparse | undefined,
    dataSize: number,
    what: string,
  ): Promise<{ content: EntryContent; size: number }> {
    if (dataSize < 0) throw this.#corrupt(`${what}: its size is negative`);
    const start = this.#reader.position;
    let map: SparseMap | undefined;
    try {
      map = await this.#sparseMap(header, block, pax, dataSize);
    } catch (error) {
      if (error instanceof BadHeader) throw this.#corrupt(`${what}: ${error.message}`);
      throw error;
    }
    const size = map?.realSize ?? dataSize;
    this.#totalBytes += size;
    this.#holeBytes += size - (map?.dataSize ?? size);
    const { totalBytes, holeBytes } = this.#limits;
    if (this.#totalBytes > totalBytes) {
      throw overLimit(
        'totalBytes',
        totalBytes,
        `with ${what} of ${size} bytes, all contents have ${this.#totalBytes} bytes`,
      );
    }
    if (this.#holeBytes > holeBytes) {
      throw overLimit('holeBytes', holeBytes, `with ${what} of ${size} bytes, all holes have ${this.#holeBytes} bytes`);
    }
    // The map of PAX 1.0 counts as content, that of GNU does not; both are whole blocks.
    const inTar = header.type === 'S' ? dataSize : dataSize - (this.#reader.position - start);
    return { content: new EntryContent(this.#reader, what, inTar, map, this.#signal), size };
  }

  async #sparseMap(
    header: RawHeader,
    block: Buffer,
    pax: PaxSparse | undefined,
    dataSize: number,
  ): Promise<SparseMap | undefined> {
    if (header.type === 'S') {
      if (header.format !== 'gnu') throw new BadHeader('it is sparse as in the GNU format, but the header is another');
      return await readGnuSparseMap(block, dataSize, this.#reader, this.#limits);
    }
    if (pax === undefined) return undefined;
    const { major = 0, minor = 0, size, map, offset } = pax;
    if (size === undefined) throw new BadHeader('it is sparse, but its real size is missing');
    if (major === 1 && minor === 0) return await readPaxSparseMap(size, dataSize, this.#reader, this.#limits);
    if (major !== 0 || minor > 1) throw new BadHeader(`it is sparse in the unknown version ${major}.${minor}`);
    if (offset !== undefined) throw new BadHeader('it has a GNU.sparse.offset without GNU.sparse.numbytes');
    return checked(map ?? [], size, dataSize);
  }

  #wrap<T>(what: string, parse: () => T): T {
    try {
      return parse();
    } catch (error) {
      if (error instanceof BadHeader) throw this.#corrupt(`${what}: ${error.message}`);
      throw error;
    }
  }

  #corrupt(problem: string): GearError {
    return new GearError('corrupt', `${problem} (after ${this.#last})`);
  }
}

function checkId(id: number, field: string, what: string): number {
  if (id >= 0 && id <= MAX_ID) return id;
  throw new GearError('invalid-argument', `${what} has the ${field} ${id}; Linux has 0 to ${MAX_ID}`);
}
