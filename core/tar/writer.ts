import { isUtf8 } from 'node:buffer';
import { GearError } from '../errors.ts';
import type { TarEntryType, TarHeader } from './entry.ts';
import { BLOCK, encodeHeader, NAME_BYTES, octalLimit } from './header.ts';
import { showPath } from './path.ts';

export type { TarHeader } from './entry.ts';

const FLAG: Readonly<Record<TarEntryType, string>> = {
  file: '0',
  'hard-link': '1',
  symlink: '2',
  'character-device': '3',
  'block-device': '4',
  directory: '5',
  fifo: '6',
};

/**
 * The header blocks of an entry: ustar, with a PAX header in front where ustar has no room (long names, big numbers, times before 1970 or with
 * nanoseconds, attributes). The same entry always gives the same bytes. A directory's path gets its slash if it has none.
 * Throws invalid-argument on what no tar can hold.
 */
export function tarHeader(header: TarHeader): Buffer {
  const what = `the tar entry ${showPath(header.path)}`;
  const path = header.type === 'directory' && !header.path.endsWith('/') ? `${header.path}/` : header.path;
  if (path === '' || path.includes('\0') || header.link.includes('\0')) {
    throw new GearError('invalid-argument', `${what}: its path is empty, or its path or link contains a NUL byte`);
  }
  const isDevice = header.type === 'character-device' || header.type === 'block-device';
  if (isDevice && !(fits(header.major, 'major') && fits(header.minor, 'minor'))) {
    throw new GearError('invalid-argument', `${what}: the device ${header.major}:${header.minor} does not fit`);
  }
  const size = header.type === 'file' ? header.size : 0;
  const records: Buffer[] = [];
  if (path.length > NAME_BYTES) records.push(record('path', path));
  if (header.link.length > NAME_BYTES) records.push(record('linkpath', header.link));
  if (!fits(size, 'size')) records.push(record('size', String(size)));
  if (!fits(header.uid, 'uid')) records.push(record('uid', String(header.uid)));
  if (!fits(header.gid, 'gid')) records.push(record('gid', String(header.gid)));
  if (header.mtimeNanoseconds !== 0 || !fits(header.mtimeSeconds, 'mtime')) {
    records.push(record('mtime', paxTime(header.mtimeSeconds, header.mtimeNanoseconds)));
  }
  for (const name of [...header.xattrs.keys()].sort()) {
    // "=" would end the key: written as GNU tar does.
    const key = name.replaceAll('%', '%25').replaceAll('=', '%3D');
    records.push(record(`SCHILY.xattr.${key}`, header.xattrs.get(name) as Buffer));
  }
  const block = encodeHeader({
    name: path.slice(0, NAME_BYTES),
    mode: header.mode & 0o7777,
    uid: fits(header.uid, 'uid') ? header.uid : 0,
    gid: fits(header.gid, 'gid') ? header.gid : 0,
    size: fits(size, 'size') ? size : 0,
    mtime: fits(header.mtimeSeconds, 'mtime') ? header.mtimeSeconds : 0,
    type: FLAG[header.type],
    link: header.link.slice(0, NAME_BYTES),
    major: isDevice ? header.major : 0,
    minor: isDevice ? header.minor : 0,
  });
  if (records.length === 0) return block;
  if (![path, header.link].every((text) => isUtf8(Buffer.from(text, 'latin1'))))
    records.unshift(record('hdrcharset', 'BINARY'));
  return Buffer.concat([paxHeader(path, Buffer.concat(records)), block]);
}

/** A whole tar, its end included. Throws invalid-argument where a content is not as long as its header says. */
export async function* writeTar(
  entries: AsyncIterable<{ header: TarHeader; content?: AsyncIterable<Uint8Array> }>,
): AsyncGenerator<Buffer> {
  const batch = new Batch();
  for await (const { header, content } of entries) {
    batch.add(tarHeader(header));
    const size = header.type === 'file' ? header.size : 0;
    let written = 0;
    if (size > 0) {
      for await (const piece of content ?? []) {
        written += piece.length;
        if (written > size) break;
        batch.add(piece);
        if (batch.isFull) yield batch.take();
      }
    }
    if (written !== size) {
      const got = written > size ? 'more' : `${written}`;
      throw new GearError(
        'invalid-argument',
        `the tar entry ${showPath(header.path)} has ${size} bytes, but ${got} came`,
      );
    }
    batch.add(padding(size));
    if (batch.isFull) yield batch.take();
  }
  batch.add(Buffer.alloc(2 * BLOCK));
  yield batch.take();
}

/** Joins small pieces, since whatever is downstream has a cost for each piece. */
class Batch {
  #pieces: Uint8Array[] = [];
  #size = 0;

  get isFull(): boolean {
    return this.#size >= 64 * 1024;
  }

  add(piece: Uint8Array): void {
    if (piece.length === 0) return;
    this.#pieces.push(piece);
    this.#size += piece.length;
  }

  take(): Buffer {
    const [only] = this.#pieces;
    const all = this.#pieces.length === 1 && Buffer.isBuffer(only) ? only : Buffer.concat(this.#pieces, this.#size);
    this.#pieces = [];
    this.#size = 0;
    return all;
  }
}

const ZEROS = Buffer.alloc(BLOCK);

function padding(size: number): Buffer {
  return ZEROS.subarray(0, -size & (BLOCK - 1));
}

function paxHeader(path: string, data: Buffer): Buffer {
  const name = `PaxHeaders/${path.replace(/\/$/, '').split('/').at(-1)}`.slice(0, NAME_BYTES);
  const block = encodeHeader({
    name,
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: data.length,
    mtime: 0,
    type: 'x',
    link: '',
    major: 0,
    minor: 0,
  });
  return Buffer.concat([block, data, padding(data.length)]);
}

/** "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
function record(key: string, value: string | Buffer): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  const rest = 1 + key.length + 1 + bytes.length + 1;
  let length = rest + String(rest).length;
  if (String(length).length !== String(rest).length) length = rest + String(length).length;
  return Buffer.concat([Buffer.from(`${length} ${key}=`, 'latin1'), bytes, Buffer.from('\n')]);
}

function paxTime(seconds: number, nanoseconds: number): string {
  if (nanoseconds === 0) return String(seconds);
  // Counted forwards inside, but written with one sign for all: -2 s and 500,000,000 ns is -1.5.
  const negative = seconds < 0;
  const whole = negative ? -seconds - 1 : seconds;
  const fraction = negative ? 1_000_000_000 - nanoseconds : nanoseconds;
  return `${negative ? '-' : ''}${whole}.${String(fraction).padStart(9, '0').replace(/0+$/, '')}`;
}

function fits(value: number, field: Parameters<typeof octalLimit>[0]): boolean {
  return value >= 0 && value <= octalLimit(field);
}
