import { DriverError } from './errors.ts';

/** How long a client may take to repeat a call whose connection broke: Docker's gives up after 30 s. */
const MEMORY = 60_000;

/**
 * Docker's client repeats a call whose connection broke, not knowing whether it was done. Most calls may be done twice. These may not: a Put that was
 * done would be counted twice and unmount what another still uses; an ApplyDiff is repeated with what is left of a body that was partly
 * read, which may look like a small or an empty layer.
 */
export class Repeats {
  readonly #donePuts = new Map<string, number[]>();
  readonly #brokenDiffs = new Set<string>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** A Put was done, but its client did not live to hear it. */
  putUnheard(id: string): void {
    this.#donePuts.set(id, [...(this.#donePuts.get(id) ?? []), this.#now()]);
  }

  /** Whether this Put only repeats one that was done; each is answered so once. */
  isPutDone(id: string): boolean {
    const fresh = (this.#donePuts.get(id) ?? []).filter((time) => this.#now() - time < MEMORY);
    const done = fresh.shift() !== undefined;
    if (fresh.length === 0) this.#donePuts.delete(id);
    else this.#donePuts.set(id, fresh);
    return done;
  }

  /** An ApplyDiff did not come to its end, or nobody heard of it. */
  applyBroken(id: string): void {
    this.#brokenDiffs.add(id);
  }

  /** Throws failed-precondition where the body of this ApplyDiff can only be the rest of another's. */
  checkApply(id: string): void {
    if (!this.#brokenDiffs.has(id)) return;
    throw new DriverError(
      'interrupted',
      `an earlier ApplyDiff of layer ${id} was interrupted, so what comes now may be only a part of it; remove the layer and start again`,
      { fields: { id } },
    );
  }

  /** The layer was removed or made: whatever was to be remembered of it no longer matters. */
  forget(id: string): void {
    this.#donePuts.delete(id);
    this.#brokenDiffs.delete(id);
  }

  /** Another Init: another daemon, which repeats nothing of the one before. */
  forgetAll(): void {
    this.#donePuts.clear();
    this.#brokenDiffs.clear();
  }
}
