import type { Digest } from '#core/digest.ts';
import { GearError, isGearError, messageOf } from '#core/errors.ts';

/** Where an object's bytes come from. */
export interface ObjectSource {
  /** For messages: what it is and where. */
  readonly name: string;
  /**
   * Exactly `length` bytes of an object from `offset` on. They are not verified. Throws a GearError: not-found, out-of-range, unavailable,
   * deadline-exceeded, ...; the signal's reason when that aborts.
   */
  read(digest: Digest, offset: number, length: number, options: { readonly signal: AbortSignal }): Promise<Buffer>;
  /** These bytes, which came from here, do not match their digest. */
  doubt?(bytes: Buffer, reason: string): void;
}

/**
 * How a source is doing. "trusted": known content came through it and matched; "away": it cannot be reached; "refused": it gives wrong bytes, or
 * lets nobody in; "off": there is none.
 */
export interface SourceState {
  readonly kind: 'untried' | 'trusted' | 'away' | 'refused' | 'off';
  /** Why it is not trusted. */
  readonly reason: string;
}

/** Asks each source in turn until one has the bytes. Throws the last one's error, with those before it in its message. */
export function tryInOrder(sources: readonly [ObjectSource, ...ObjectSource[]]): ObjectSource {
  if (sources.length === 1) return sources[0];
  return {
    name: sources.map(({ name }) => name).join(', then '),
    read: async (digest, offset, length, { signal }) => {
      const failures: unknown[] = [];
      for (const source of sources) {
        try {
          return await source.read(digest, offset, length, { signal });
        } catch (error) {
          signal.throwIfAborted();
          failures.push(error);
        }
      }
      // A source that could not be asked may still have it, so "not found" only counts when all say so.
      const decisive = failures.find((error) => !isGearError(error, 'not-found')) ?? failures.at(-1);
      const code = isGearError(decisive) ? decisive.code : 'internal';
      throw new GearError(code, failures.map(messageOf).join('; '), { cause: decisive });
    },
  };
}
