import { closeSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { isErrno } from '#core/errors.ts';
import { libc } from './libc.ts';

/** Makes what was written durable. */
export interface Flusher extends Disposable {
  /** Says that a file or folder changed; the next flush covers it. */
  changed(path: string): void;
  /** Resolves when everything that changed before the call is on the disk. */
  flush(): Promise<void>;
}

/** The flusher that suits this machine, for the filesystem that `folder` lies on. */
export function openFlusher(folder: string): Flusher {
  return libc === undefined ? new FileFlusher() : new FilesystemFlusher(folder, libc.syncfs);
}

/** Flushes run one after the other; all who ask while one runs share the next one, because what they wrote may have come too late for this one. */
class Turns {
  readonly #work: () => Promise<void>;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  async flush(): Promise<void> {
    if (this.#running === undefined) return await this.#start();
    this.#next ??= this.#running
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        return this.#start();
      });
    return await this.#next;
  }

  #start(): Promise<void> {
    const running = this.#work().finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    return running;
  }
}

/** One syncfs for any number of files: thousands of small objects cost one wait instead of thousands. */
export class FilesystemFlusher implements Flusher {
  // Stays open: the kernel reports write errors that happened since a descriptor was opened.
  readonly #descriptor: number;
  readonly #turns: Turns;

  constructor(folder: string, syncfs: (descriptor: number) => Promise<void>) {
    this.#descriptor = openSync(folder, 'r');
    this.#turns = new Turns(() => syncfs(this.#descriptor));
  }

  changed(): void {}

  flush(): Promise<void> {
    return this.#turns.flush();
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }
}

/** An fsync for each file and folder, where syncfs cannot be called. */
export class FileFlusher implements Flusher {
  #paths = new Set<string>();
  readonly #turns = new Turns(() => this.#flushAll());

  changed(path: string): void {
    this.#paths.add(path);
  }

  flush(): Promise<void> {
    return this.#turns.flush();
  }

  async #flushAll(): Promise<void> {
    const paths = this.#paths;
    this.#paths = new Set();
    for (const path of paths) {
      try {
        await using handle = await open(path, 'r');
        await handle.sync();
      } catch (error) {
        // Renamed (its new folder is among the paths) or removed since.
        if (!isErrno(error, 'ENOENT')) throw error;
      }
    }
  }

  [Symbol.dispose](): void {}
}
