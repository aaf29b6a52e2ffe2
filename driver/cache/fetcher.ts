import { type Digest, digestOf } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { Urgency } from '../remote/gate.ts';
import { chunkDigestOf, chunkLength, isSmall, type WantedObject } from './object.ts';

/** Where bytes come from, patiently: asked again until the signal aborts. They are not verified. */
export interface RemoteReader {
  readonly name: string;
  read(
    digest: Digest,
    offset: number,
    length: number,
    options: { readonly signal: AbortSignal; readonly urgency?: Urgency },
  ): Promise<Buffer>;
  /** These bytes, which came from here, do not match their digest. */
  doubt?(bytes: Buffer, reason: string): void;
}

export interface FetchOptions {
  readonly signal: AbortSignal;
  readonly urgency?: Urgency;
}

/** Bytes with a wrong digest may have been damaged on their way: they are asked for this many times before the reader gets an error. */
const TRIES = 3;

/** Fetches bytes and lets nothing pass that does not match its digest. */
export class Fetcher {
  readonly #remote: RemoteReader;
  readonly #log: Logger;
  /** Requests that were answered. */
  fetches = 0;
  /** Whole objects among them. */
  fetchedObjects = 0;
  fetchedBytes = 0;
  /** Answers that did not match. */
  mismatches = 0;

  constructor(remote: RemoteReader, log: Logger) {
    this.#remote = remote;
    this.#log = log;
  }

  /** A whole object of at most one chunk. Throws corrupt after several wrong answers. */
  async whole(object: WantedObject, options: FetchOptions): Promise<Buffer> {
    const bytes = await this.#verified(object, 0, object.size, options, (found) =>
      this.#compare(object, 'object', object.digest, digestOf(found)),
    );
    this.fetchedObjects++;
    return bytes;
  }

  /** Chunks `first` to `first + count - 1` in one request, each verified. */
  async chunks(object: WantedObject, first: number, count: number, options: FetchOptions): Promise<Buffer[]> {
    if (isSmall(object)) return [await this.whole(object, options)];
    const lengths = Array.from({ length: count }, (_, i) => chunkLength(object, first + i));
    const total = lengths.reduce((sum, length) => sum + length, 0);
    let pieces: Buffer[] = [];
    await this.#verified(object, first * object.chunkSize, total, options, (bytes) => {
      pieces = split(bytes, lengths);
      return pieces.every((piece, i) =>
        this.#compare(object, `chunk ${first + i}`, chunkDigestOf(object, first + i).toString('hex'), digestOf(piece)),
      );
    });
    return pieces;
  }

  async #verified(
    object: WantedObject,
    offset: number,
    length: number,
    options: FetchOptions,
    good: (bytes: Buffer) => boolean,
  ): Promise<Buffer> {
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const bytes = await this.#remote.read(object.digest, offset, length, options);
      this.fetches++;
      this.fetchedBytes += bytes.length;
      if (bytes.length === length && good(bytes)) return bytes;
      this.#remote.doubt?.(bytes, `wrong bytes for object ${object.digest}`);
    }
    throw new GearError('corrupt', `object ${object.digest}: ${this.#remote.name} gives bytes with a wrong digest`);
  }

  #compare(object: WantedObject, what: string, wanted: string, found: string): boolean {
    if (wanted === found) return true;
    this.mismatches++;
    this.#log.error({ object: object.digest, what, wanted, found, source: this.#remote.name }, 'wrong digest');
    return false;
  }
}

function split(bytes: Buffer, lengths: readonly number[]): Buffer[] {
  let at = 0;
  return lengths.map((length) => {
    at += length;
    return bytes.subarray(at - length, at);
  });
}
