import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { type Digest, Hasher, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { HttpAnswer } from '../registry/client-http.ts';
import type { KeptFile } from './registry-endpoint-gear.ts';

/** What a blob is answered with. */
export interface BlobAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readable | undefined;
}

/** The bytes that a Range header (RFC 9110, 14.2) asks for: a single range of `size` bytes, both ends included. Undefined: all, as what cannot be read is ignored. */
export function parseRange(
  header: string | undefined,
  size: number,
): { readonly first: number; readonly last: number } | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? '');
  if (match === null) return undefined;
  const [, from = '', to = ''] = match;
  if (from === '' && to === '') return undefined;
  if (from === '') {
    const length = Math.min(Number(to), size);
    return length === 0 ? 'unsatisfiable' : { first: size - length, last: size - 1 };
  }
  const first = Number(from);
  const last = to === '' ? size - 1 : Math.min(Number(to), size - 1);
  if (to !== '' && Number(to) < first) return undefined;
  return first >= size ? 'unsatisfiable' : { first, last };
}

/** A blob, or a part of one, from a file. */
export function fromFile({ path, size }: KeptFile, range: string | undefined, isHead: boolean): BlobAnswer {
  const part = parseRange(range, size);
  if (part === 'unsatisfiable')
    return { status: 416, headers: { 'content-range': `bytes */${size}` }, body: undefined };
  const { first, last } = part ?? { first: 0, last: size - 1 };
  const headers = {
    'content-length': String(last - first + 1),
    ...(part === undefined ? {} : { 'content-range': `bytes ${first}-${last}/${size}` }),
  };
  const body = isHead || size === 0 ? undefined : createReadStream(path, { start: first, end: last });
  return { status: part === undefined ? 200 : 206, headers, body };
}

/** A blob, or a part of one, as the upstream sends it. A whole one is verified: its last piece is held back until the digest is right. */
export function fromUpstream(answer: HttpAnswer, digest: Digest, isHead: boolean): BlobAnswer {
  const headers: Record<string, string> = {};
  for (const name of ['content-length', 'content-range'] as const) {
    const value = answer.headers[name];
    if (value !== undefined) headers[name] = String(value);
  }
  if (isHead || answer.status === 416) {
    answer.body.resume();
    return { status: answer.status, headers, body: undefined };
  }
  if (answer.status === 206) return { status: 206, headers, body: answer.body };
  return { status: answer.status, headers, body: Readable.from(verified(answer, digest), { objectMode: false }) };
}

async function* verified({ url, body }: HttpAnswer, digest: Digest): AsyncGenerator<Buffer, void, void> {
  const hasher = new Hasher();
  let held: Buffer | undefined;
  for await (const piece of body) {
    hasher.update(piece as Buffer);
    if (held !== undefined) yield held;
    held = piece as Buffer;
  }
  const found = hasher.digest();
  if (found !== digest) {
    throw new GearError('corrupt', `${url.host}: the blob ${ociDigest(digest)} has the digest ${ociDigest(found)}`);
  }
  if (held !== undefined) yield held;
}
