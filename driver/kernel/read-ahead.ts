import { systemCall } from './syscall.ts';

// Answers an error number instead of setting errno.
const fadvise = systemCall('posix_fadvise', ['int', 'int64', 'int64', 'int']);
const POSIX_FADV_WILLNEED = 3;

/**
 * Asks the kernel to have the first `length` bytes of the open file `fd` in memory soon. Returns once the reads are queued. Only a hint: where it is not
 * possible nothing happens.
 */
export async function readAhead(fd: number, length: number): Promise<void> {
  await fadvise.async({}, fd, 0, length, POSIX_FADV_WILLNEED);
}
