import type { ConvertProgress } from './request.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Keeps how far a conversion is, and tells of it. */
export class Progress {
  /** May be changed without telling: what happens for each of a million entries. */
  readonly state: Mutable<ConvertProgress> = {
    phase: 'resolve',
    doneBytes: 0,
    totalBytes: 0,
    layer: 0,
    layers: 0,
    entries: 0,
    newObjects: 0,
    newBytes: 0,
  };
  readonly #tell: ((progress: ConvertProgress) => void) | undefined;

  constructor(tell: ((progress: ConvertProgress) => void) | undefined) {
    this.#tell = tell;
  }

  update(change: Partial<ConvertProgress>): void {
    Object.assign(this.state, change);
    this.#tell?.({ ...this.state });
  }
}
