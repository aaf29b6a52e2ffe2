/**
 * A tar archive with exact bytes, for images that try a reader: every field can be what no tar program would write. Text is one
 * character a byte (latin1). POSIX pax(1), "ustar Interchange Format" and "pax Header Block"; GNU's extensions as in its tar.h.
 */
export interface TarFields {
  readonly name: string;
  /** Typeflag; '0' unless told. */
  readonly type?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds since 1970. */
  readonly mtime?: number;
  readonly link?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly content?: Buffer | string;
  /** Other than the content's length. */
  readonly size?: number;
  readonly prefix?: string;
  /** 'ustar' (default), 'gnu' or 'v7' (no magic at all). */
  readonly format?: 'ustar' | 'gnu' | 'v7';
  /** Bytes put at offsets of the finished header, before its checksum is made. */
  readonly raw?: readonly (readonly [offset: number, bytes: Buffer])[];
}

const BLOCK = 512;
/** 2001-09-09 01:46:40 UTC: whole seconds, long ago, easy to recognise. */
export const MTIME = 1_000_000_000;

const bytesOf = (value: Buffer | string): Buffer => (typeof value === 'string' ? Buffer.from(value, 'latin1') : value);

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)]);
}

// Octal where it fits, otherwise GNU's base-256: the top bit set, then a big-endian two's complement number.
function writeNumber(header: Buffer, offset: number, width: number, value: number): void {
  const octal = value >= 0 ? value.toString(8) : undefined;
  if (octal !== undefined && octal.length < width) {
    header.write(`${octal.padStart(width - 1, '0')}\0`, offset, 'latin1');
    return;
  }
  let rest = BigInt.asUintN(width * 8 - 1, BigInt(value));
  for (let at = offset + width - 1; at >= offset; at -= 1) {
    header[at] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  header[offset] = (header[offset] as number) | 0x80;
}

/** One entry: its header and its content, padded. */
export function entry(fields: TarFields): Buffer {
  const content = bytesOf(fields.content ?? '');
  const header = Buffer.alloc(BLOCK);
  const name = bytesOf(fields.name);
  if (name.length > 100) throw new Error(`${fields.name}: longer than the header's field; use pax or gnuLongName`);
  name.copy(header, 0);
  writeNumber(header, 100, 8, fields.mode ?? 0o644);
  writeNumber(header, 108, 8, fields.uid ?? 0);
  writeNumber(header, 116, 8, fields.gid ?? 0);
  writeNumber(header, 124, 12, fields.size ?? content.length);
  writeNumber(header, 136, 12, fields.mtime ?? MTIME);
  header.write(fields.type ?? '0', 156, 'latin1');
  bytesOf(fields.link ?? '').copy(header, 157, 0, 100);
  const format = fields.format ?? 'ustar';
  if (format !== 'v7') {
    header.write(format === 'gnu' ? 'ustar  \0' : 'ustar\x0000', 257, 'latin1');
    writeNumber(header, 329, 8, fields.major ?? 0);
    writeNumber(header, 337, 8, fields.minor ?? 0);
    if (fields.prefix !== undefined) header.write(fields.prefix, 345, 155, 'latin1');
  }
  for (const [offset, bytes] of fields.raw ?? []) bytes.copy(header, offset);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([header, padded(content)]);
}

/** A PAX header (for the entry that follows; `global`: for all that follow). Values are bytes. */
export function pax(
  records: readonly (readonly [key: string, value: Buffer | string])[],
  { global = false }: { global?: boolean } = {},
): Buffer {
  const content = Buffer.concat(
    records.map(([key, value]) => {
      const rest = Buffer.concat([bytesOf(` ${key}=`), bytesOf(value), bytesOf('\n')]);
      // A record's length counts its own digits.
      let length = rest.length + 1;
      while (length !== rest.length + String(length).length) length = rest.length + String(length).length;
      return Buffer.concat([bytesOf(String(length)), rest]);
    }),
  );
  return entry({ name: 'PaxHeaders/0', type: global ? 'g' : 'x', content });
}

/** GNU's long name ('L') or long link target ('K') for the entry that follows. */
export function gnuLong(type: 'L' | 'K', value: string): Buffer {
  return entry({ name: '././@LongLink', type, format: 'gnu', mtime: 0, content: `${value}\0` });
}

/** An entry after a PAX header. */
export function withPax(
  records: readonly (readonly [key: string, value: Buffer | string])[],
  fields: TarFields,
): Buffer {
  return Buffer.concat([pax(records), entry(fields)]);
}

/** A directory. */
export function directory(name: string, fields: Omit<TarFields, 'name' | 'type' | 'content'> = {}): Buffer {
  return entry({ mode: 0o755, ...fields, name, type: '5' });
}

/** A regular file. */
export function file(name: string, content: Buffer | string, fields: Omit<TarFields, 'name' | 'content'> = {}): Buffer {
  return entry({ ...fields, name, content });
}

/** A symbolic link. */
export function symlink(
  name: string,
  target: string,
  fields: Omit<TarFields, 'name' | 'link' | 'content'> = {},
): Buffer {
  return entry({ mode: 0o777, ...fields, name, link: target, type: '2' });
}

/** A hard link. */
export function hardLink(
  name: string,
  target: string,
  fields: Omit<TarFields, 'name' | 'link' | 'content'> = {},
): Buffer {
  return entry({ ...fields, name, link: target, type: '1' });
}

/** A whiteout of `name` in `folder` ('' is the root). */
export function whiteout(folder: string, name: string): Buffer {
  return entry({ name: `${folder === '' ? '' : `${folder}/`}.wh.${name}`, mode: 0 });
}

/** A whole archive: the entries and the two blocks of zeros at the end. */
export function archive(...entries: readonly Buffer[]): Buffer {
  return Buffer.concat([...entries, Buffer.alloc(2 * BLOCK)]);
}

/** Bytes that look random and are the same every time (xorshift32). */
export function noise(size: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(size / 4));
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  for (let at = 0; at < words.length; at += 1) {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    words[at] = state;
  }
  return Buffer.from(words.buffer, 0, size);
}
