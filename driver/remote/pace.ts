/** What a request costs besides its bytes, as so many bytes. */
const REQUEST_BYTES = 64 * 1024;
/** How much of what was known a new measurement leaves. */
const MEMORY = 0.9;

/** How fast a source answers, and what it has done so far. */
export class Pace {
  #cost: number | undefined;
  reads = 0;
  bytes = 0;
  failures = 0;

  /** Milliseconds for a MiB in requests of the sizes that there were; undefined before the first. */
  get cost(): number | undefined {
    return this.#cost;
  }

  took(milliseconds: number, bytes: number): void {
    this.reads++;
    this.bytes += bytes;
    const cost = (milliseconds * 1024 * 1024) / (REQUEST_BYTES + bytes);
    this.#cost = this.#cost === undefined ? cost : MEMORY * this.#cost + (1 - MEMORY) * cost;
  }
}
