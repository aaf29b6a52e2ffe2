import { deadline } from '#core/abort.ts';
import type { Digest } from '#core/digest.ts';
import { type ErrorCode, isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { Circuit } from './circuit.ts';
import { Gate, type Urgency } from './gate.ts';
import type { ObjectSource } from './source.ts';

/** What may be gone at the next attempt; anything else is the source's last word. */
const TRANSIENT: ReadonlySet<ErrorCode> = new Set([
  'unavailable',
  'deadline-exceeded',
  'resource-exhausted',
  'aborted',
  'cancelled',
  'internal',
  // A token may be given, or taken back, while somebody waits: as good as away until then.
  'unauthenticated',
]);

/** An attempt that takes longer is given up and made again: over a dead connection it would never end. */
const ATTEMPT_MS = 15_000;
/** Bytes a second below which a connection counts as dead. */
const SLOWEST = 64 * 1024;

export interface PatientOptions {
  readonly log: Logger;
  /** How many fetches may be under way. */
  readonly concurrency?: number;
  readonly circuit?: Circuit;
  /** Milliseconds for one attempt; longer for many bytes. */
  readonly attempt?: number;
}

/** A source that is asked again until the caller's signal aborts, never by too many at a time, and never stormed while it is away. */
export class PatientSource {
  #inner: ObjectSource;
  readonly #log: Logger;
  readonly #gate: Gate;
  readonly #circuit: Circuit;
  readonly #attemptMs: number;
  #failure = '';

  constructor(
    inner: ObjectSource,
    { log, concurrency = 32, circuit = new Circuit(), attempt = ATTEMPT_MS }: PatientOptions,
  ) {
    this.#inner = inner;
    this.#log = log;
    this.#gate = new Gate(concurrency);
    this.#circuit = circuit;
    this.#attemptMs = attempt;
  }

  get name(): string {
    return this.#inner.name;
  }

  /** Whether the source seems to be away. */
  get away(): boolean {
    return this.#circuit.open;
  }

  /** Why it does; '' where it does not. */
  get awayReason(): string {
    return this.away ? this.#failure : '';
  }

  /** From now on another source is asked, also by those who wait. */
  replace(inner: ObjectSource): void {
    this.#inner = inner;
    this.#circuit.reset();
  }

  /** These bytes, which were read here, do not match their digest. */
  doubt(bytes: Buffer, reason: string): void {
    this.#inner.doubt?.(bytes, reason);
  }

  /** Exactly `length` bytes, unverified. Throws the source's last word, or the signal's reason. */
  async read(
    digest: Digest,
    offset: number,
    length: number,
    { signal, urgency = 'demand' }: { readonly signal: AbortSignal; readonly urgency?: Urgency },
  ): Promise<Buffer> {
    for (;;) {
      using passage = await this.#circuit.enter(signal);
      using _place = await this.#gate.enter(urgency, signal);
      const source = this.#inner;
      try {
        const bytes = await this.#attempt(source, digest, offset, length, signal);
        passage.succeeded();
        return bytes;
      } catch (error) {
        signal.throwIfAborted();
        // What was asked of a source that has been replaced meanwhile says nothing of the new one.
        if (source !== this.#inner) continue;
        if (!isGearError(error) || !TRANSIENT.has(error.code)) {
          passage.succeeded();
          throw error;
        }
        const failure = messageOf(error);
        if (!this.#circuit.open) this.#log.warn({ source: source.name }, `asking again: ${failure}`);
        this.#failure = failure;
        passage.failed();
      }
    }
  }

  async #attempt(
    source: ObjectSource,
    digest: Digest,
    offset: number,
    length: number,
    signal: AbortSignal,
  ): Promise<Buffer> {
    using limited = deadline(
      this.#attemptMs + (length / SLOWEST) * 1000,
      `${length} bytes of ${digest} from ${source.name}`,
      signal,
    );
    return await source.read(digest, offset, length, { signal: limited });
  }
}
