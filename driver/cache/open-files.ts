import { closeSync, openSync, readSync } from 'node:fs';

/** Descriptors of complete objects that were read lately: objects never change, so a descriptor stays right whatever becomes of the name. */
export class OpenFiles {
  readonly #limit: number;
  readonly #fds = new Map<string, number>();

  constructor(limit = 128) {
    this.#limit = limit;
  }

  /** At most `size` bytes of the file at `path` from `offset` on, fewer only at its end. Throws what opening or reading throws. */
  read(path: string, offset: number, size: number): Buffer {
    const fd = this.#open(path);
    const bytes = Buffer.allocUnsafe(size);
    let done = 0;
    while (done < size) {
      const count = readSync(fd, bytes, done, size - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    return bytes.subarray(0, done);
  }

  close(): void {
    for (const fd of this.#fds.values()) closeSync(fd);
    this.#fds.clear();
  }

  #open(path: string): number {
    const known = this.#fds.get(path);
    if (known !== undefined) {
      this.#fds.delete(path);
      this.#fds.set(path, known);
      return known;
    }
    const fd = openSync(path, 'r');
    this.#fds.set(path, fd);
    if (this.#fds.size > this.#limit) {
      const [oldest] = this.#fds as Iterable<[string, number]>;
      if (oldest !== undefined) {
        this.#fds.delete(oldest[0]);
        closeSync(oldest[1]);
      }
    }
    return fd;
  }
}
