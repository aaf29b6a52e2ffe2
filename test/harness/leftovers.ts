import { existsSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { findProcesses, mountPoints, RUN_VARIABLE, tagOf } from '../../deploy/sandbox/cleanup.ts';

/** Folders in which tests, or what they start, make names; and which names. */
const WATCHED: readonly (readonly [folder: string, names: RegExp])[] = [
  ['/tmp', /^gear-/],
  ['/run', /^gear/],
  ['/run/netns', /./],
  ['/run/docker/plugins', /./],
  ['/run/docker/netns', /./],
  ['/run/containerd/s', /./],
  ['/etc/docker/plugins', /./],
  ['/sys/fs/cgroup', /^gear-/],
];

/** What a test could leave behind on the machine, a line each, as it is now. */
export async function machineState(): Promise<Set<string>> {
  const state = new Set<string>();
  for (const { path, type, source } of mountPoints()) state.add(`mount ${path} (${type}, ${source})`);
  const cgroups = await readdir('/sys/fs/cgroup').catch(() => []);
  const watched = [...WATCHED, ...cgroups.map((name) => [`/sys/fs/cgroup/${name}`, /^gear-/] as const)];
  for (const [folder, names] of watched) {
    for (const name of await readdir(folder).catch(() => [])) {
      if (names.test(name)) state.add(`${folder}/${name}`);
    }
  }
  for (const name of await readdir('/sys/block').catch(() => [])) {
    const file = `/sys/block/${name}/loop/backing_file`;
    if (existsSync(file)) state.add(`loop device ${name} of ${readFileSync(file, 'utf8').trim()}`);
  }
  return state;
}

/** The processes of this run that are still there. */
export async function processesOf(run: string): Promise<{ pid: number; commandLine: string }[]> {
  const marker = `${RUN_VARIABLE}=${run}`;
  const pids = await findProcesses(({ environment }) => environment.split('\0').includes(marker));
  return pids.map((pid) => ({ pid, commandLine: commandLineOf(pid) }));
}

function commandLineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim().slice(0, 200);
  } catch {
    return '(ended)';
  }
}

/** Whether a line names what another run than this made: it has that run's tag. */
function ofAnotherRun(line: string, run: string): boolean {
  const tag = /\/gear-([0-9a-f]{4})-/.exec(line)?.[1];
  return tag !== undefined && tag !== tagOf(run);
}

/** What is there now and was not `before`, a line each. Waits a little for what is just going away. */
export async function leftovers(before: ReadonlySet<string>, run: string, patience = 5000): Promise<string[]> {
  const end = performance.now() + patience;
  for (;;) {
    const state = [...(await machineState())].filter((line) => !before.has(line) && !ofAnotherRun(line, run));
    const processes = (await processesOf(run)).map(({ pid, commandLine }) => `process ${pid}: ${commandLine}`);
    const left = [...state, ...processes];
    if (left.length === 0 || performance.now() > end) return left;
    await delay(200);
  }
}
