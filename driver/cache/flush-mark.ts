import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { temporaryName } from '#core/atomic-file.ts';
import { isErrno } from '#core/errors.ts';
import { syncfs } from '../kernel/inode.ts';

/** A file's time comes from a clock that may lag some milliseconds behind Date.now(). */
const CLOCK_SLACK_MS = 100;

export interface MarkContent {
  /** The run of the kernel that it was written in. */
  readonly bootId: string;
  /** Milliseconds since 1970: what was modified earlier is on the disk. */
  readonly time: number;
}

/** The kernel's name for the time since it started. */
export function currentBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}

/** Reads a mark; undefined where there is none or it makes no sense. */
export function readMark(file: string): MarkContent | undefined {
  try {
    const { bootId, time } = JSON.parse(readFileSync(file, 'utf8')) as Partial<MarkContent>;
    return typeof bootId === 'string' && typeof time === 'number' ? { bootId, time } : undefined;
  } catch (error) {
    if (isErrno(error, 'ENOENT') || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Writes a mark, flushed. */
export function writeMark(file: string, content: MarkContent): void {
  const folder = dirname(file);
  const temporary = join(folder, temporaryName());
  const fd = openSync(temporary, 'wx', 0o600);
  try {
    writeSync(fd, JSON.stringify(content));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, file);
  const folderFd = openSync(folder, 'r');
  try {
    fsyncSync(folderFd);
  } finally {
    closeSync(folderFd);
  }
}

/**
 * Flushes the caches in batches instead of object by object, and keeps the mark that says how far that has come. While the kernel runs
 * everything counts; after a power cut only what is older than the mark, see recover.ts.
 */
export class FlushMark {
  readonly #file: string;
  readonly #folder: string;
  readonly #bootId = currentBootId();
  #time: number;
  #dirty = false;

  /** `file` is the mark's, `folder` any folder of the filesystem to flush. */
  constructor(file: string, folder: string) {
    this.#file = file;
    this.#folder = folder;
    const mark = readMark(file);
    this.#time = mark?.bootId === this.#bootId ? mark.time : 0;
  }

  /** To be called before a file is written: its time must not lie before the mark, or it would count as flushed. */
  note(): void {
    this.#dirty = true;
    const now = Date.now();
    if (now - CLOCK_SLACK_MS < this.#time) {
      // The clock was set back.
      this.#write(now - 10 * CLOCK_SLACK_MS);
    }
  }

  /** Flushes what came since the last time, and moves the mark. */
  async flush(): Promise<void> {
    if (!this.#dirty) return;
    this.#dirty = false;
    const before = Date.now() - CLOCK_SLACK_MS;
    const fd = openSync(this.#folder, 'r');
    try {
      await syncfs(fd);
      this.#write(before);
    } catch (error) {
      this.#dirty = true;
      throw error;
    } finally {
      closeSync(fd);
    }
  }

  #write(time: number): void {
    writeMark(this.#file, { bootId: this.#bootId, time });
    this.#time = time;
  }
}
