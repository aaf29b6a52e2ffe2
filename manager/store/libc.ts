import koffi from 'koffi';
import { GearError } from '#core/errors.ts';

interface Libc {
  /** Flushes the filesystem of an open file: data and metadata. */
  readonly syncfs: (descriptor: number) => Promise<void>;
  /** Takes the exclusive lock of an open file without waiting; gives whether it was free. It ends with the descriptor, so with the process. */
  readonly tryLock: (descriptor: number) => boolean;
}

const LOCK_EX = 2;
const LOCK_NB = 4;

/** The system calls that the store needs and Node has no function for; undefined where the C library cannot be called. */
export const libc: Libc | undefined = load();

function load(): Libc | undefined {
  let library: ReturnType<typeof koffi.load>;
  try {
    // The process itself: its C library is loaded already, whatever its file's name (glibc, musl).
    library = koffi.load(null);
  } catch {
    return undefined;
  }
  const syncfs = library.func('int syncfs(int fd)');
  const flock = library.func('int flock(int fd, int operation)');
  return {
    syncfs: (descriptor) =>
      new Promise((resolve, reject) => {
        // In a thread of its own: a flush may take seconds.
        syncfs.async(descriptor, (error: Error | null, result: number) => {
          if (error !== null) reject(error);
          else if (result !== 0)
            reject(new GearError('corrupt', 'the disk could not be flushed (syncfs failed); see the kernel log'));
          else resolve();
        });
      }),
    tryLock: (descriptor) => flock(descriptor, LOCK_EX | LOCK_NB) === 0,
  };
}
