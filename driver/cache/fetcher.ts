import { type Digest, digestOf } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { Urgency } from '../remote/gate.ts';
import { Incoming } from './incoming.ts';
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
  /** Objects of which something was fetched, each counted with its first chunk. */
  fetchedObjects = 0;
  fetchedBytes = 0;
  /** Bytes among them that a reader waited for; the rest was fetched in the background. */
  demandBytes = 0;
  /** Answers that did not match. */
  mismatches = 0;
  /** Chunks that a reader waited for and that came without having been asked for. */
  joined = 0;
  /** What comes without being asked for. */
  readonly incoming = new Incoming();
  /** When a reader last had to wait for the remote, milliseconds since 1970; 0: never. */
  lastDemandAt = 0;
  #waiting = 0;

  constructor(remote: RemoteReader, log: Logger) {
    this.#remote = remote;
    this.#log = log;
  }

  /** How many requests a reader waits for now. */
  get waiting(): number {
    return this.#waiting;
  }

  /** A whole object of at most one chunk. Throws corrupt after several wrong answers. */
  async whole(object: WantedObject, options: FetchOptions): Promise<Buffer> {
    const claimed = await this.#claim(object, 0, options);
    if (claimed !== undefined) return claimed;
    const bytes = await this.#verified(object, 0, object.size, options, (found) =>
      this.#compare(object, 'object', object.digest, digestOf(found)),
    );
    this.fetchedObjects++;
    return bytes;
  }

  /** Chunks `first` to `first + count - 1` in one request, each verified. */
  async chunks(object: WantedObject, first: number, count: number, options: FetchOptions): Promise<Buffer[]> {
    if (isSmall(object)) return [await this.whole(object, options)];
    const claims = Array.from({ length: count }, (_, i) => this.#claim(object, first + i, options));
    if (claims.every((claim) => claim === undefined)) return await this.#run(object, first, count, options);
    const one = async (claim: Promise<Buffer | undefined> | undefined, chunk: number) =>
      (await claim) ?? (await this.#run(object, chunk, 1, options))[0] ?? Buffer.alloc(0);
    return await Promise.all(claims.map((claim, i) => one(claim, first + i)));
  }

  /** The chunk, where it is on its way already. */
  #claim(object: WantedObject, chunk: number, options: FetchOptions): Promise<Buffer | undefined> | undefined {
    return this.incoming.claim(object.digest, chunk, options)?.then((bytes) => {
      if (bytes !== undefined) this.joined++;
      return bytes;
    });
  }

  async #run(object: WantedObject, first: number, count: number, options: FetchOptions): Promise<Buffer[]> {
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
      const bytes = await this.#read(object, offset, length, options);
      this.fetches++;
      this.fetchedBytes += bytes.length;
      if (bytes.length === length && good(bytes)) return bytes;
      this.#remote.doubt?.(bytes, `wrong bytes for object ${object.digest}`);
    }
    throw new GearError('corrupt', `object ${object.digest}: ${this.#remote.name} gives bytes with a wrong digest`);
  }

  async #read(object: WantedObject, offset: number, length: number, options: FetchOptions): Promise<Buffer> {
    if (options.urgency === 'background') return await this.#remote.read(object.digest, offset, length, options);
    this.#waiting++;
    try {
      const bytes = await this.#remote.read(object.digest, offset, length, options);
      this.demandBytes += bytes.length;
      this.lastDemandAt = Date.now();
      return bytes;
    } finally {
      this.#waiting--;
    }
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
