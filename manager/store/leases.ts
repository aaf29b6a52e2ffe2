/** One claim stands for a minute of calls; milliseconds. */
const BUCKET = 60_000;
/** What was used just before it was claimed is claimed too. */
const LEAD = 2_000;

/** A use of the store that relies on what it added or found since its beginning. */
export interface Lease extends Disposable {
  /** Milliseconds since 1970: what the user of this lease adds or finds must be marked as used at this moment or later. */
  readonly since: number;
}

interface Claim {
  readonly from: number;
  readonly to: number;
  readonly expires: number;
}

/** Whether something that was last used at that moment (milliseconds since 1970) must stay. */
export type Keeps = (usedAt: number) => boolean;

/**
 * Keeps garbage collection from what somebody is about to rely on. A file's modification time says when it was last added or found ("used"). Nothing
 * is removed that was used since the oldest open lease began, or within a claim: the time around a call of a client that asked what is missing, or
 * uploaded, and will register an image later. A claim lasts for the grace period. Checking and removing happen in one turn of the event
 * loop, as do finding and marking: so there is no moment in between.
 */
export class Leases {
  readonly #grace: number;
  readonly #margin: number;
  readonly #open = new Set<Lease>();
  /** Oldest first. */
  readonly #claims: Claim[];

  /** `grace`: milliseconds. `margin`: by how many milliseconds the filesystem rounds times down. */
  constructor(grace: number, margin = 0, now = Date.now()) {
    this.#grace = grace;
    this.#margin = margin;
    // Claims from before a restart are not known any more, but still honoured.
    this.#claims = [{ from: now - grace, to: now, expires: now + grace }];
  }

  /** Begins a use; dispose it when what it relies on is registered. */
  open(): Lease {
    const lease: Lease = {
      since: Date.now(),
      [Symbol.dispose]: () => {
        this.#open.delete(lease);
      },
    };
    this.#open.add(lease);
    return lease;
  }

  /** Makes a claim. Gives the moment since when things must be marked as used for it to hold. */
  claim(now = Date.now()): number {
    const last = this.#claims.at(-1);
    if (last !== undefined && this.#claims.length > 1 && now >= last.from && now < last.to) return last.from;
    const from = now - LEAD;
    this.#claims.push({ from, to: now + BUCKET, expires: now + BUCKET + this.#grace });
    return from;
  }

  /** What must stay as things are now. */
  snapshot(now = Date.now()): Keeps {
    while (this.#claims.length > 0 && (this.#claims[0] as Claim).expires < now) this.#claims.shift();
    const oldest = Math.min(now, ...[...this.#open].map((lease) => lease.since)) - this.#margin;
    const claims = this.#claims.map(({ from, to }) => ({ from: from - this.#margin, to }));
    return (usedAt) => usedAt >= oldest || claims.some(({ from, to }) => usedAt >= from && usedAt <= to);
  }
}
