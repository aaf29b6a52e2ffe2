import { createHash } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, readlink, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { until } from '#core/abort.ts';
import { orUndefined } from '#core/errors.ts';
import { mountPoints, temporaryFolder } from './cleanup.ts';
import { projectRoot } from './gear.ts';
import { RunningProcess } from './process.ts';

/** A machine of its own in namespaces: a copy-on-write view of this one, with systemd as its first process, an empty /var/lib and no network but itself. */
export interface Machine extends AsyncDisposable {
  /** Where its / can be reached from here; for files and sockets, not for what leads through a symbolic link. */
  readonly root: string;
  /** Runs a script of bash in it; gives what it wrote. Throws where it fails. */
  run(script: string): Promise<string>;
  /** A line for each file that is not as it is outside, with type, mode, owner and content. Not what the system itself goes on writing. */
  changedFiles(): Promise<string[]>;
}

/** Boots a machine; takes a second or two. Disposing it ends all of its processes, and its mounts go with them. */
export async function bootMachine(): Promise<Machine> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const cgroup = stack.use(await makeCgroup());
  const kinds = ['mount', 'pid', 'cgroup', 'net', 'uts', 'ipc'].map((kind) => `--${kind}`);
  const script = join(projectRoot, 'test/support/machine-boot.sh');
  // A cgroup namespace begins where its first process is.
  const start = `echo $$ >"$0/cgroup.procs" && exec unshare ${kinds.join(' ')} --fork --kill-child --propagation private bash "$1" "$2"`;
  const running = await RunningProcess.start({
    name: 'machine',
    command: 'bash',
    args: ['-c', start, cgroup.path, script, folder.path],
    // What waits for its first process takes no other signal.
    grace: 0,
  });
  stack.use(running);
  const init = await running.waitUntil('its first process', async () => {
    const [child] = (await readFile(`/proc/${running.pid}/task/${running.pid}/children`, 'utf8')).split(' ');
    const name = child && (await readFile(`/proc/${child}/comm`, 'utf8').catch(() => ''));
    return name === 'systemd\n' ? child : undefined;
  });
  const run = async (text: string) => {
    const { stdout, stderr, exitCode } = await execa(
      'nsenter',
      ['--target', init, '--all', '--wd', 'env', '-i', 'HOME=/root', `PATH=${PATH}`, 'bash', '-euc', text],
      { reject: false, stdin: 'ignore', timeout: 120_000 },
    );
    if (exitCode !== 0) throw new Error(`in the machine: ${text}\nexit code ${exitCode}\n${stdout}\n${stderr}`);
    return stdout;
  };
  await running.waitUntil('systemd', async () => {
    const state = await run('systemctl is-system-running || true').catch(() => '');
    return state === 'running' || state === 'degraded';
  });
  const owned = stack.move();
  const root = `/proc/${init}/root`;
  const changedFiles = async () => [
    ...(await differences(join(root, 'run/changes'), '/', '')),
    ...(await differences(join(root, 'var/lib'), undefined, 'var/lib')),
  ];
  return { root, run, changedFiles, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** A group of its own in the second version of control groups, wherever that is mounted. */
async function makeCgroup(): Promise<AsyncDisposable & { readonly path: string }> {
  const top = mountPoints().find(({ type }) => type === 'cgroup2')?.path;
  if (top === undefined) throw new Error('no cgroup2 is mounted, which a systemd of its own needs');
  const path = join(top, `gear-machine-${process.pid}`);
  await mkdir(path);
  const remove = async (folder: string): Promise<void> => {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (entry.isDirectory()) await remove(join(folder, entry.name));
    }
    await rmdir(folder);
  };
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      // Its last processes may be just going.
      await until(
        'the end of a control group',
        async () =>
          await remove(path).then(
            () => true,
            () => false,
          ),
      );
    },
  };
}

/**
 * What a system goes on writing by itself; and the file before, which useradd and its like keep with a dash behind its name, and the lock that they take.
 */
const RESTLESS = /^(var\/log|var\/tmp|var\/lib\/systemd|etc\/[a-z]+-|etc\/\.pwd\.lock)$/;

/** The files below `upper` that are not the same below `lower`, by their path below `name`. */
async function differences(upper: string, lower: string | undefined, name: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of (await readdir(upper)).sort()) {
    const path = join(name, entry);
    if (RESTLESS.test(path)) continue;
    const beside = lower === undefined ? undefined : join(lower, entry);
    const facts = await describeFile(join(upper, entry));
    if (beside === undefined || facts !== (await describeFile(beside))) found.push(`${path} ${facts}`);
    if (facts.startsWith('folder')) found.push(...(await differences(join(upper, entry), beside, path)));
  }
  return found;
}

async function describeFile(path: string): Promise<string> {
  const facts = await orUndefined(lstat(path), 'ENOENT', 'ENOTDIR');
  if (facts === undefined) return 'missing';
  const owner = `${(facts.mode & 0o7777).toString(8)} ${facts.uid}:${facts.gid}`;
  if (facts.isDirectory()) return `folder ${owner}`;
  if (facts.isSymbolicLink()) return `link ${await readlink(path)} ${facts.uid}:${facts.gid}`;
  if (!facts.isFile()) return `special ${owner}`;
  return `file ${owner} ${createHash('sha256')
    .update(await readFile(path))
    .digest('hex')}`;
}
