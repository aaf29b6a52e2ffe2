import { closeSync, openSync, readSync, writeSync } from 'node:fs';

/** Of a chunk: not here; written by an earlier process and not looked at yet; verified by this process. */
export const CHUNK = { absent: 0, claimed: 1, verified: 2 } as const;
export type ChunkState = (typeof CHUNK)[keyof typeof CHUNK];

/**
 * Which chunks of a partial object are in its data file: a byte each on the disk, 1 once the chunk was written. After a power cut a byte may
 * be there and its chunk not, so what an earlier process wrote is only claimed until its bytes are verified again.
 */
export class ChunkMap implements Disposable {
  readonly #fd: number;
  readonly #states: Uint8Array;
  #here = 0;

  constructor(file: string, chunks: number) {
    this.#fd = openSync(file, 'a+', 0o600);
    closeSync(this.#fd);
    this.#fd = openSync(file, 'r+');
    this.#states = new Uint8Array(chunks);
    readSync(this.#fd, this.#states, 0, chunks, 0);
    for (let chunk = 0; chunk < chunks; chunk++) {
      this.#states[chunk] = this.#states[chunk] === 1 ? CHUNK.claimed : CHUNK.absent;
      if (this.#states[chunk] === CHUNK.claimed) this.#here++;
    }
  }

  /** Whether every chunk is claimed or verified. */
  get full(): boolean {
    return this.#here === this.#states.length;
  }

  get chunks(): number {
    return this.#states.length;
  }

  state(chunk: number): ChunkState {
    return this.#states[chunk] as ChunkState;
  }

  /** The chunk's bytes are in the file and have been verified. */
  setVerified(chunk: number): void {
    if (this.state(chunk) === CHUNK.absent) {
      writeSync(this.#fd, Buffer.of(1), 0, 1, chunk);
      this.#here++;
    }
    this.#states[chunk] = CHUNK.verified;
  }

  /** The chunk's bytes are not what they should be. */
  setAbsent(chunk: number): void {
    if (this.state(chunk) === CHUNK.absent) return;
    writeSync(this.#fd, Buffer.of(0), 0, 1, chunk);
    this.#states[chunk] = CHUNK.absent;
    this.#here--;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
