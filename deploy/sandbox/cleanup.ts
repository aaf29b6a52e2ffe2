import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';

/** Processes that tests start carry this variable, and so do their children: whoever is left of a run can be told from a machine's own. */
export const RUN_VARIABLE = 'GEAR_TEST_RUN';

/** The name of this run, given by test/run; a process that was started without it makes its own. */
export const runName: string = process.env[RUN_VARIABLE] ?? `pid-${process.pid}`;

/** Four digits in the names of what a run makes on the machine, so that runs beside each other can tell whose it is. */
export const tagOf = (run: string): string => createHash('sha256').update(run).digest('hex').slice(0, 4);
/** The tag of this run. */
export const runTag: string = tagOf(runName);

/** A folder below /tmp with a short path (socket paths end at 107 bytes). Disposing it unmounts what is mounted below and deletes it. */
export interface TemporaryFolder extends AsyncDisposable {
  readonly path: string;
}

/**
 * Makes a folder /tmp/gear-TAG-XXXXXX. ext4 is told to put what is made in it elsewhere than what others make and remove in /tmp all the time: it does not
 * use an inode again for a minute after its file was removed, and where many were, looking for another one takes up to two milliseconds a file.
 */
export async function temporaryFolder(): Promise<TemporaryFolder> {
  const path = await mkdtemp(`/tmp/gear-${runTag}-`);
  // Other filesystems do not know the flag, and need it not.
  await execa('chattr', ['+T', path], { reject: false, stdio: 'ignore' });
  return { path, [Symbol.asyncDispose]: () => removeFolder(path) };
}

/** Where something is mounted, and what, as the kernel lists it. */
export interface MountPoint {
  readonly path: string;
  readonly type: string;
  readonly source: string;
}

// The kernel writes space, tab, newline and backslash as three octal digits.
function unescapePath(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The mounts of this process's mount namespace, in the order they were made. */
export function mountPoints(): MountPoint[] {
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').split('\n');
  return lines.flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    const path = left.split(' ')[4];
    const [type = '', source = ''] = right.split(' ');
    return path === undefined ? [] : [{ path: unescapePath(path), type, source: unescapePath(source) }];
  });
}

/** The paths at and below `folder` on which something is mounted, the innermost first. */
export function mountsBelow(folder: string): string[] {
  const inside = mountPoints().filter(({ path }) => path === folder || path.startsWith(`${folder}/`));
  return inside.map(({ path }) => path).reverse();
}

/** Unmounts everything at and below `folder`, detaching what is busy. */
export async function unmountBelow(folder: string): Promise<void> {
  for (const path of mountsBelow(folder)) {
    await execa('umount', ['--lazy', '--', path], { reject: false });
  }
}

/** Deletes a folder of ours with all that is in it, after unmounting what lies below. Never deletes through a mount that stays. */
export async function removeFolder(path: string): Promise<void> {
  if (!/^\/tmp\/gear-[^/]+/.test(path)) throw new Error(`refusing to delete ${path}: not a folder of a test`);
  await unmountBelow(path);
  const left = mountsBelow(path);
  if (left.length > 0) throw new Error(`cannot delete ${path}: still mounted: ${left.join(', ')}`);
  await rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

/** The ids of the living processes (no zombies) for which `matches` holds. */
export async function findProcesses(
  matches: (process: { commandLine: string; environment: string }) => boolean,
): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    try {
      const folder = join('/proc', name);
      const state = /\) (\S)/.exec(await readFile(join(folder, 'stat'), 'latin1'))?.[1];
      if (state === 'Z' || state === 'X') continue;
      const commandLine = (await readFile(join(folder, 'cmdline'), 'latin1')).replaceAll('\0', ' ').trim();
      const environment = await readFile(join(folder, 'environ'), 'latin1');
      if (matches({ commandLine, environment })) found.push(Number(name));
    } catch {
      // It ended while we looked, or is a kernel thread.
    }
  }
  return found;
}

/** Ends these processes: SIGTERM, after `grace` ms SIGKILL. Waits until they are gone. */
export async function endProcesses(pids: readonly number[], grace = 3000): Promise<void> {
  const send = (signal: NodeJS.Signals | 0) => {
    let living = 0;
    for (const pid of pids) {
      try {
        process.kill(pid, signal);
        const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
        if (!/\) [ZX]/.test(stat)) living += 1;
      } catch {
        // Gone.
      }
    }
    return living;
  };
  if (send('SIGTERM') === 0) return;
  const end = performance.now() + grace;
  while (send(0) > 0 && performance.now() < end) await delay(25);
  if (send('SIGKILL') === 0) return;
  for (let tries = 0; tries < 200 && send(0) > 0; tries += 1) await delay(25);
}
