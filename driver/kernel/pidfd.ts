import { rawSystemCall } from './syscall.ts';

// Of asm-generic/unistd.h and syscall_64.tbl: calls of this age have one number everywhere.
const pidfdOpenCall = rawSystemCall('pidfd_open', { x64: 434, arm64: 434 }, ['int', 'uint']);
const pidfdGetfdCall = rawSystemCall('pidfd_getfd', { x64: 438, arm64: 438 }, ['int', 'int', 'uint']);

/** A descriptor (close-on-exec) that stands for the process `pid`, whatever happens to its number later. Throws ESRCH. */
export function pidfdOpen(pid: number): number {
  return pidfdOpenCall({}, pid, 0);
}

/** A copy (close-on-exec) of the descriptor `fd` of another process. Throws EBADF, and EPERM where one may not ptrace the other. */
export function pidfdGetfd(pidfd: number, fd: number): number {
  return pidfdGetfdCall({}, pidfd, fd, 0);
}
