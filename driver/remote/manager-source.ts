import type { Digest } from '#core/digest.ts';
import { GearError, isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { Access } from '#core/security/access.ts';
import { GrpcSource } from './grpc-source.ts';
import { NfsSource } from './nfs-source.ts';
import { Pace } from './pace.ts';
import type { ObjectSource, SourceState } from './source.ts';

/** How objects are fetched: by what is faster, by gRPC only, or by NFS as long as that works. */
export const FETCH_CHOICES = ['auto', 'grpc', 'nfs'] as const;
export type FetchChoice = (typeof FETCH_CHOICES)[number];

/** What one way to the manager has done. */
export interface SourceStats {
  readonly kind: 'grpc' | 'nfs';
  readonly state: SourceState['kind'];
  /** Why it is not used. */
  readonly reason: string;
  readonly reads: number;
  readonly bytes: number;
  readonly failures: number;
  /** Milliseconds for a MiB, lately. */
  readonly cost: number | undefined;
}

export interface FetchStats {
  readonly choice: FetchChoice;
  /** The way that is taken first at the moment. */
  readonly preferred: 'grpc' | 'nfs';
  readonly sources: readonly SourceStats[];
}

/** One read in so many goes the other way, so that what is known of that stays true. */
const TRY_OTHER = 32;
/** By how much the other way has to be faster before it becomes the first. */
const ADVANTAGE = 0.8;
/** Milliseconds, and bytes a millisecond, after which NFS is no longer waited for alone. */
const PATIENCE = 400;
const PATIENCE_RATE = 1024;
/** By then a server that has fallen silent is known as such. */
const OVERDUE = 4_000;

interface NfsWay extends ObjectSource, Disposable {
  readonly state: SourceState;
  readonly ready: boolean;
  connected(signal: AbortSignal): Promise<void>;
  distrust(reason: string): void;
}

export interface ManagerSourceParts {
  readonly grpc: ObjectSource & Disposable;
  readonly nfs: NfsWay;
  readonly choice: FetchChoice;
}

/** The manager's objects, over gRPC or NFS. What NFS cannot give, or not soon, gRPC is asked for at once. */
export class ManagerSource implements ObjectSource, Disposable {
  readonly name: string;
  readonly #grpc: ObjectSource & Disposable;
  readonly #nfs: NfsWay;
  readonly #paces = { grpc: new Pace(), nfs: new Pace() };
  readonly #overNfs = new WeakSet<Buffer>();
  choice: FetchChoice;
  #preferred: 'grpc' | 'nfs' = 'nfs';
  #count = 0;
  /** Until when nobody else is made to wait for NFS, which kept somebody waiting. */
  #owesUntil = 0;

  constructor({ grpc, nfs, choice }: ManagerSourceParts) {
    this.name = grpc.name;
    this.#grpc = grpc;
    this.#nfs = nfs;
    this.choice = choice;
  }

  async read(
    digest: Digest,
    offset: number,
    length: number,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<Buffer> {
    const byGrpc = async (limit: AbortSignal) =>
      await this.#timed('grpc', length, limit, this.#grpc.read(digest, offset, length, { signal: limit }));
    if (!(await this.#takesNfs(signal))) return await byGrpc(signal);
    let hasFailed = false;
    const byNfs = async (limit: AbortSignal) => {
      const answer = this.#nfs.read(digest, offset, length, { signal: limit });
      const bytes = await this.#timed('nfs', length, limit, answer).catch((error: unknown) => {
        hasFailed = true;
        throw error;
      });
      this.#overNfs.add(bytes);
      return bytes;
    };
    const byGrpcToo = (limit: AbortSignal) => {
      if (!hasFailed) this.#owesUntil = performance.now() + OVERDUE;
      return byGrpc(limit);
    };
    return await firstOf(byNfs, byGrpcToo, PATIENCE + length / PATIENCE_RATE, signal);
  }

  /** These bytes, which were read here, do not match their digest. */
  doubt(bytes: Buffer, reason: string): void {
    if (this.#overNfs.has(bytes)) this.#nfs.distrust(reason);
  }

  stats(): FetchStats {
    const { grpc, nfs } = this.#paces;
    const counts = ({ reads, bytes, failures, cost }: Pace) => ({ reads, bytes, failures, cost });
    const { kind, reason } = this.#nfs.state;
    return {
      choice: this.choice,
      preferred: this.choice === 'grpc' || kind !== 'trusted' ? 'grpc' : this.#first(),
      sources: [
        { kind: 'grpc', state: 'trusted', reason: '', ...counts(grpc) },
        this.choice === 'grpc'
          ? { kind: 'nfs', state: 'off', reason: '--fetch grpc', ...counts(nfs) }
          : { kind: 'nfs', state: kind, reason, ...counts(nfs) },
      ],
    };
  }

  [Symbol.dispose](): void {
    this.#grpc[Symbol.dispose]();
    this.#nfs[Symbol.dispose]();
  }

  async #takesNfs(signal: AbortSignal): Promise<boolean> {
    if (this.choice === 'grpc' || performance.now() < this.#owesUntil) return false;
    if (this.choice === 'nfs') {
      // Worth waiting for, unless it is known to be away.
      await this.#nfs.connected(signal).catch(() => {});
      signal.throwIfAborted();
      return this.#nfs.ready;
    }
    if (!this.#nfs.ready) return false;
    const first = this.#first();
    return ++this.#count % TRY_OTHER === 0 ? first === 'grpc' : first === 'nfs';
  }

  #first(): 'grpc' | 'nfs' {
    if (this.choice !== 'auto') return this.choice;
    const other = this.#preferred === 'nfs' ? 'grpc' : 'nfs';
    const mine = this.#paces[this.#preferred].cost;
    const theirs = this.#paces[other].cost;
    if (mine !== undefined && theirs !== undefined && theirs < mine * ADVANTAGE) this.#preferred = other;
    return this.#preferred;
  }

  async #timed(kind: 'grpc' | 'nfs', length: number, signal: AbortSignal, read: Promise<Buffer>): Promise<Buffer> {
    const began = performance.now();
    const pace = this.#paces[kind];
    try {
      const bytes = await read;
      pace.took(performance.now() - began, length);
      return bytes;
    } catch (error) {
      if (!signal.aborted) pace.failures++;
      throw error;
    }
  }
}

type Attempt = (signal: AbortSignal) => Promise<Buffer>;

/**
 * What `first` gives, or `second` where that fails; after `patience` milliseconds both are asked, and the one that is done sooner is taken. What is
 * not needed any more is aborted. Throws the second's error, with the first's in its message where the second could not be asked.
 */
async function firstOf(first: Attempt, second: Attempt, patience: number, signal: AbortSignal): Promise<Buffer> {
  const over = new AbortController();
  const limit = AbortSignal.any([signal, over.signal]);
  const { promise: late, resolve: hurry } = Promise.withResolvers<void>();
  const timer = setTimeout(hurry, patience);
  let failure: unknown;
  const one = first(limit).catch((error: unknown) => {
    failure = error;
    hurry();
    throw error;
  });
  const two = late.then(() => {
    limit.throwIfAborted();
    return second(limit);
  });
  try {
    return await Promise.any([one, two]);
  } catch (error) {
    signal.throwIfAborted();
    const last: unknown = (error as AggregateError).errors[1];
    if (!isGearError(last, 'unavailable')) throw last;
    throw new GearError('unavailable', `${last.message}; ${messageOf(failure)}`, { cause: last });
  } finally {
    clearTimeout(timer);
    over.abort();
  }
}

/** Both ways to the manager at "host:port". Throws invalid-argument. */
export function managerSource(address: string, choice: FetchChoice, log: Logger, access: Access = {}): ManagerSource {
  return new ManagerSource({
    grpc: new GrpcSource(address, access),
    nfs: new NfsSource(address, log, access),
    choice,
  });
}
