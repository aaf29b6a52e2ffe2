import koffi from 'koffi';
import { GearError } from '#core/errors.ts';

interface Libc {
  /** Flushes the filesystem of an open file: data and metadata. */
  readonly syncfs: (descriptor: number) => Promise<void>;
  /** Takes the exclusive lock of an open file without waiting; gives whether it was free. It ends with the descriptor, so with the process. */
  readonly tryLock: (descriptor: number) => boolean;
  /** Sets a folder's inode flags besides those that it has; gives whether its filesystem took them. */
  readonly addFlags: (descriptor: number, flags: number) => boolean;
}

/** linux/fs.h, x86-64 and arm64: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS; an int in this machine's byte order. */
const GET_FLAGS = 0x80086601;
const SET_FLAGS = 0x40086602;

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
  const ioctl = library.func('int ioctl(int fd, ulong request, void *argument)');
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
    addFlags: (descriptor, flags) => {
      const word = new Int32Array(2);
      if (ioctl(descriptor, GET_FLAGS, word) !== 0) return false;
      word[0] = (word[0] ?? 0) | flags;
      return ioctl(descriptor, SET_FLAGS, word) === 0;
    },
    tryLock: (descriptor) => flock(descriptor, LOCK_EX | LOCK_NB) === 0,
  };
}
