/** What is reported at most of one image: 2 GiB in chunks of 128 KiB. More is no start-up. */
const MAX_TOUCHES = 16_384;
const MAX_CHUNKS = 2 ** 22;

export interface RecordingLimits {
  /** Milliseconds after the first touch. */
  readonly longest: number;
  /** Milliseconds without a new touch. */
  readonly idle: number;
}

/** A part of a recording: parallel lists, in the order in which it happened. */
export interface RecordedPart {
  readonly first: boolean;
  readonly complete: boolean;
  readonly rows: number[];
  readonly chunks: number[];
  readonly milliseconds: number[];
}

/** What of an image was touched first, in which order and when. Noting a touch is a look into a set; everything else is done by who asks for it. */
export class Recording {
  readonly #limits: RecordingLimits;
  readonly #now: () => number;
  /** When the image was first mounted. */
  readonly #mountedAt: number;
  readonly #seen = new Set<number>();
  #part: { rows: number[]; chunks: number[]; milliseconds: number[] } = { rows: [], chunks: [], milliseconds: [] };
  #firstTouch = 0;
  #lastTouch = 0;
  #taken = false;
  #over = false;
  /** Whether every touch of the image passes here, and has from the beginning. */
  complete: boolean;

  constructor(limits: RecordingLimits, complete: boolean, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
    this.#mountedAt = now();
    this.complete = complete;
  }

  /** Whether it has come to its end, and everything was taken. */
  get done(): boolean {
    return this.#over && this.#part.rows.length === 0;
  }

  get touches(): number {
    return this.#seen.size;
  }

  /** Chunk `chunk` of the object in this row of the image's table is needed. Gives whether it is news. */
  touch(row: number, chunk: number): boolean {
    if (this.#over) return false;
    const key = row * MAX_CHUNKS + chunk;
    if (this.#seen.has(key)) return false;
    if (this.#seen.size >= MAX_TOUCHES || chunk >= MAX_CHUNKS) return false;
    const now = this.#now();
    if (this.#seen.size === 0) this.#firstTouch = now;
    this.#lastTouch = now;
    this.#seen.add(key);
    this.#part.rows.push(row);
    this.#part.chunks.push(chunk);
    this.#part.milliseconds.push(Math.round(now - this.#mountedAt));
    return true;
  }

  has(row: number, chunk: number): boolean {
    return this.#seen.has(row * MAX_CHUNKS + chunk);
  }

  /** What came since the last time; undefined where that is nothing. Ends the recording when its time is over. */
  take(most: number): RecordedPart | undefined {
    const now = this.#now();
    if (this.#seen.size > 0 && !this.#over) {
      this.#over = now - this.#lastTouch > this.#limits.idle || now - this.#firstTouch > this.#limits.longest;
    }
    const { rows, chunks, milliseconds } = this.#part;
    if (rows.length === 0) return undefined;
    const first = !this.#taken;
    this.#taken = true;
    return {
      first,
      complete: this.complete,
      rows: rows.splice(0, most),
      chunks: chunks.splice(0, most),
      milliseconds: milliseconds.splice(0, most),
    };
  }

  /** Milliseconds since the image was mounted. */
  age(): number {
    return this.#now() - this.#mountedAt;
  }
}
