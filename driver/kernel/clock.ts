import { systemCall } from './syscall.ts';

// clockid_t is an int; struct timespec of 64-bit Linux: two signed 64-bit numbers.
const clockGetTime = systemCall('clock_gettime', ['int', 'void *']);
const CLOCK_REALTIME = 0;
const timespec = Buffer.alloc(16);

/** Nanoseconds since 1970, as the kernel's clock has them; Date.now() is cut to milliseconds. */
export function realTime(): bigint {
  clockGetTime({}, CLOCK_REALTIME, timespec);
  return timespec.readBigInt64LE(0) * 1_000_000_000n + timespec.readBigInt64LE(8);
}
