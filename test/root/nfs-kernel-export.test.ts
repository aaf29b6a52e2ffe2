import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { launcher } from '../../deploy/sandbox/gear.ts';
import { RunningProcess } from '../../deploy/sandbox/process.ts';

// The kernel that tests run on has no NFS server, so what is tested is what exportfs is asked to do: a program of that name writes down its calls and
// holds a table of exports as the real one does. The manager is the real one, and is killed for real; it finds the versions of a server in a /proc/fs of
// its own. Whether a kernel's server then serves, nothing here says.
const EXPORTFS = `#!/bin/sh
echo "$*" >>"$EXPORTS/calls"
for name; do :; done
file=$EXPORTS/table/$(echo "$name" | tr / _)
case $1 in
  -u) rm "$file" 2>/dev/null || { echo "exportfs: Could not find '$name' to unexport." >&2; exit 1; } ;;
  *) : >"$file" ;;
esac
`;
const AS_A_SERVER = 'mount -t tmpfs fs /proc/fs && mkdir /proc/fs/nfsd && echo "+4 +4.1" >/proc/fs/nfsd/versions';

it('removes what a manager that was killed had exported, also when nothing is to be exported any more', async () => {
  await using folder = await temporaryFolder();
  const inFolder = (name: string): string => join(folder.path, name);
  const root = inFolder('manager');
  for (const name of ['bin', 'table']) await mkdir(inFolder(name));
  await writeFile(inFolder('bin/exportfs'), EXPORTFS, { mode: 0o755 });
  const ports = ['--listen', '--monitor-listen', '--http-listen'].flatMap((option) => [option, '127.0.0.1:0']);

  /** Runs a manager until it serves, ends it, and gives what exportfs was asked while it started. */
  const run = async (end: 'stop' | 'kill', ...args: string[]): Promise<string[]> => {
    await writeFile(inFolder('calls'), '');
    await using manager = await RunningProcess.start({
      name: 'manager',
      command: 'unshare',
      args: [
        ...['--mount', 'bash', '-c', `${AS_A_SERVER} && exec "$@"`, 'manager'],
        ...[launcher, 'manager', '--root', root, ...ports, ...args],
      ],
      env: { PATH: `${inFolder('bin')}:${process.env['PATH']}`, EXPORTS: folder.path },
    });
    await manager.waitForOutput(/"ready"/, 60_000);
    const calls = (await readFile(inFolder('calls'), 'utf8')).split('\n').filter((line) => line !== '');
    await manager[end]();
    return calls.map((line) => line.replace(/^-i -o ro,all_squash,\S+ /, 'add ').replace(/^-u /, 'remove '));
  };
  const kernel = (allow: string): string[] => ['--nfs', 'kernel', '--nfs-listen', '0.0.0.0:2049', '--nfs-allow', allow];
  const exported = (network: string): string => `${network}:${root}/objects`;
  const table = async (): Promise<string[]> => await readdir(inFolder('table'));

  expect(await run('kill', ...kernel('10.1.0.0/16,10.2.0.0/16'))).toEqual([
    `add ${exported('10.1.0.0/16')}`,
    `add ${exported('10.2.0.0/16')}`,
  ]);
  expect(await table()).toHaveLength(2);
  // Who may still read is not interrupted.
  expect(await run('kill', ...kernel('10.2.0.0/16'))).toEqual([
    `remove ${exported('10.1.0.0/16')}`,
    `add ${exported('10.2.0.0/16')}`,
  ]);
  expect(await table()).toHaveLength(1);
  expect(await run('stop', '--nfs', 'off')).toEqual([`remove ${exported('10.2.0.0/16')}`]);
  expect(await table()).toEqual([]);
  expect(await run('stop', ...kernel('10.3.0.0/16'))).toEqual([`add ${exported('10.3.0.0/16')}`]);
  expect(await table()).toEqual([]);

  // As after a reboot: what was exported is not there, and nobody minds.
  expect(await run('kill', ...kernel('10.4.0.0/16'))).toEqual([`add ${exported('10.4.0.0/16')}`]);
  for (const name of await table()) await rm(inFolder(`table/${name}`));
  expect(await run('stop', '--nfs', 'off')).toEqual([`remove ${exported('10.4.0.0/16')}`]);
  expect(await readdir(join(root, 'nfs'))).toEqual([]);
});
