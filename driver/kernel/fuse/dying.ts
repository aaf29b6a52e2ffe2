import { readFileSync } from 'node:fs';

const SIGKILL_BIT = 0x100n;

/**
 * Whether a thread is being killed. Only then may a file operation be cut short by a signal: programs do not expect EINTR from
 * regular files, and a timer's or a profiler's signal must not break their reads. The kernel turns every deadly signal into a
 * pending SIGKILL of each of the process's threads. `status` is the text of /proc/<tid>/status.
 */
export function isDying(status: string): boolean {
  if (/^State:\s*[XZ]/m.test(status)) return true;
  const pending = /^SigPnd:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  const shared = /^ShdPnd:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return ((BigInt(`0x${pending ?? 0}`) | BigInt(`0x${shared ?? 0}`)) & SIGKILL_BIT) !== 0n;
}

/** The same by the thread's id; one that cannot be seen is taken for dead. */
export function isThreadDying(pid: number): boolean {
  try {
    return isDying(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return true;
  }
}
