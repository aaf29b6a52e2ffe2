import { koffi } from './koffi.ts';
import { systemCall } from './syscall.ts';

const madvise = systemCall('madvise', ['void *', 'size_t', 'int']);
const mlock = systemCall('mlock', ['void *', 'size_t']);
const pageSize = systemCall('getpagesize', []);
const MADV_DONTFORK = 10;

/**
 * A buffer whose pages are always there and writable: not swapped out, and not write-protected by the fork of a child. For the kernel to write into while a
 * thread is being killed, when no page fault is served any more. To be kept as long as the process lives.
 */
export function residentBuffer(bytes: number): Buffer {
  const page = pageSize({});
  const length = Math.ceil(bytes / page) * page;
  const room = Buffer.allocUnsafeSlow(length + page).fill(0);
  const start = page - Number(koffi.address(room) % BigInt(page));
  const pages = room.subarray(start, start + length);
  for (const keep of [() => mlock({}, pages, length), () => madvise({}, pages, length, MADV_DONTFORK)]) {
    try {
      keep();
    } catch {
      // Too little may be locked, for instance: then the pages are there most of the time.
    }
  }
  return pages.subarray(0, bytes);
}
