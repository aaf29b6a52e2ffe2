import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Descriptors that both processes have: the open /dev/fuse, and the socket to each other. */
export const FUSE_FD = 3;
export const LINK_FD = 4;

/** Small heaps: both processes are there as long as the node is. The server needs room for what it fetches, which lies outside of the heap. */
const FLAGS = {
  supervisor: ['--max-old-space-size=32', '--max-semi-space-size=1'],
  server: ['--max-old-space-size=256', '--max-semi-space-size=4'],
} as const;

/** Two threads wait in read(2) on /dev/fuse; the others are for everything else. */
const POOL_THREADS = { supervisor: '1', server: '6' } as const;

export type Role = keyof typeof FLAGS;

export function scriptOf(role: Role): string {
  return fileURLToPath(new URL(`./${role}.ts`, import.meta.url));
}

/** The only argument that makes either of them load its code and end. */
export const WARM = 'warm';

export interface StartOptions {
  readonly args: readonly string[];
  /** What becomes standard output and standard error. */
  readonly log: number | 'inherit';
  /** What becomes FUSE_FD. */
  readonly fuse?: number;
  /** Whether LINK_FD is a new socket, whose other end is the child's `stdio[LINK_FD]`. */
  readonly link?: boolean;
  /** Where Node keeps compiled code, see compile-cache.ts. Missing: where the starter has it. */
  readonly compileCache?: string;
  readonly script?: string;
}

/** Starts one of the two processes in a session of its own, so that nothing that is done to its starter's process group reaches it. */
export function startProcess(role: Role, options: StartOptions): ChildProcess {
  const { args, log, fuse, link = false, script = scriptOf(role) } = options;
  const child = spawn(process.execPath, [...FLAGS[role], '--disable-warning=ExperimentalWarning', script, ...args], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log, fuse ?? 'ignore', link ? 'pipe' : 'ignore'],
    // Nothing that happens to be set where the driver was started: proxies, NODE_OPTIONS, secrets.
    env: {
      PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
      NODE_COMPILE_CACHE: options.compileCache ?? process.env['NODE_COMPILE_CACHE'] ?? '',
      UV_THREADPOOL_SIZE: POOL_THREADS[role],
      // Else glibc keeps freed memory in an arena for each thread.
      MALLOC_ARENA_MAX: '2',
    },
  });
  child.unref();
  return child;
}

/** A process, told from a later one with the same number by when it was started. */
export interface ProcessId {
  readonly pid: number;
  readonly startTime: string;
}

/** Undefined where there is no such process, or only its remains. */
export function processId(pid: number): ProcessId | undefined {
  try {
    // The name, in parentheses, may contain anything; behind it come the state and, as field 22 of all, the start time.
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? [];
    const [state] = fields;
    const startTime = fields[19];
    return state === 'Z' || state === 'X' || startTime === undefined ? undefined : { pid, startTime };
  } catch {
    return undefined;
  }
}

export function isRunning({ pid, startTime }: ProcessId): boolean {
  return processId(pid)?.startTime === startTime;
}

/** Kills a process if it is still the one that is meant. */
export function killProcess(id: ProcessId): void {
  if (!isRunning(id)) return;
  try {
    process.kill(id.pid, 'SIGKILL');
  } catch {
    // It was faster.
  }
}

/** The kernel is to end other processes before this one when memory runs out: containers read through it. */
export function protectFromOutOfMemory(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '-900');
  } catch {
    // Not allowed here; nothing depends on it.
  }
}
