import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createGunzip } from 'node:zlib';
import { execa } from 'execa';
import { expect, it, onTestFinished } from 'vitest';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { PluginClient } from '../../driver/docker/client.ts';
import { bigContent, quickImage } from '../images/quick.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { projectRoot } from '../support/gear.ts';
import { bootMachine, type Machine } from '../support/machine.ts';

/** Files, mounts and units of the machine. */
async function stateOf(machine: Machine): Promise<string[]> {
  const rest = await machine.run(`awk '{ print "mount", $5, $9 }' /proc/self/mountinfo | sort
    systemctl list-unit-files --no-legend 'gear*' || true; systemctl list-units --all --no-legend 'gear*'`);
  return [...(await machine.changedFiles()), ...rest.split('\n')];
}

/** Has the plugin of the machine run a Gear image's layer; gives where the root filesystem of a container of it is, in the machine. */
async function mountImage(machine: Machine): Promise<string> {
  await writeOciLayout(join(machine.root, 'tmp/image'), quickImage());
  await machine.run('gear convert oci:/tmp/image:latest oci:/tmp/converted:latest');
  const blob = async (digest: string) =>
    join(machine.root, 'tmp/converted/blobs/sha256', digest.replace('sha256:', ''));
  const index = JSON.parse(await readFile(join(machine.root, 'tmp/converted/index.json'), 'utf8'));
  const manifest = JSON.parse(await readFile(await blob(index.manifests[0].digest), 'utf8'));
  expect(manifest.layers).toHaveLength(1);
  const layer = createReadStream(await blob(manifest.layers[0].digest));
  using client = new PluginClient(join(machine.root, 'run/docker/plugins/gear.sock'));
  const none = { mountLabel: '', storageOpt: {} };
  await client.init({ home: '/var/lib/docker/gear' });
  await client.create('layer', '', none);
  await client.applyDiff('layer', '', layer.pipe(createGunzip()));
  await client.createReadWrite('container', 'layer', none);
  return await client.get('container', '');
}

const show = async (machine: Machine, unit: string, property: string) =>
  (await machine.run(`systemctl show --value --property=${property} ${unit}`)).trim();

it('installs manager and node as services, which work and restart, and takes them off without a trace', async () => {
  await using machine = await bootMachine();
  const install = async (args: string) => await machine.run(`${projectRoot}/deploy/install ${args}`);
  const uninstall = async (args: string) => await machine.run(`${projectRoot}/deploy/uninstall ${args}`);
  await machine.run(
    `mkdir /etc/docker && echo '{ "log-level": "warn" }' >/etc/docker/daemon.json && chmod 640 /etc/docker/daemon.json`,
  );
  const before = await stateOf(machine);

  const planned = await install('manager --dry-run');
  expect(planned).toContain('+ /etc/systemd/system/gear-manager.service');
  expect(await stateOf(machine)).toEqual(before);

  await install('manager');
  // Type=notify: systemctl came back when it served.
  expect(await machine.run('gear images')).toMatch(/^IMAGE +DIGEST/);
  expect(await machine.run('ps -o user= -p "$(systemctl show --value --property=MainPID gear-manager)"')).toMatch(
    /^gear-man/,
  );
  const said = await install('node --set manager=127.0.0.1:2019 --docker=graphdriver --kubernetes');
  expect(said).toContain('~ /etc/docker/daemon.json');
  expect(said).toContain('All that Gear needs is there');
  expect(JSON.parse(await machine.run('cat /etc/docker/daemon.json'))).toEqual({
    'log-level': 'warn',
    experimental: true,
    'storage-driver': 'gear',
  });
  expect(await machine.run('containerd --config /etc/containerd/config.toml config dump')).toContain(
    'snapshotter = "gear"',
  );
  expect(await machine.run('gear status')).toContain('containerd:  /run/gear/containerd.sock');
  expect(await machine.run('systemd-analyze verify gear-manager.service gear-driver.service 2>&1')).toBe('');
  // How much is left open, in tenths: the driver has to mount, make devices and reach the host.
  await machine.run('systemd-analyze security --no-pager --threshold=20 gear-manager');
  await machine.run('systemd-analyze security --no-pager --threshold=60 gear-driver');
  expect(await install('node')).toContain('Nothing to do');
  expect(await install('manager')).toContain('Nothing to do');

  // Under the units' restrictions images are converted, unpacked, mounted, and read from afar; what is mounted is seen by everybody.
  const root = await mountImage(machine);
  expect(await machine.run(`findmnt --noheadings --output FSTYPE ${root}`)).toBe('overlay');
  const objectFilesystem = (await machine.run('pgrep -f objectfs/server.ts')).trim();
  for (const signal of ['TERM', 'KILL']) {
    const old = await show(machine, 'gear-driver', 'MainPID');
    await (signal === 'TERM'
      ? machine.run('systemctl restart gear-driver')
      : machine.run(`kill -KILL ${old}; until [ "$(systemctl show --value --property=MainPID,ActiveState gear-driver)" != "${old}
active" ] && systemctl is-active --quiet gear-driver; do sleep 0.1; done`));
    expect(await show(machine, 'gear-driver', 'MainPID')).not.toBe(old);
    expect((await machine.run('pgrep -f objectfs/server.ts')).trim()).toBe(objectFilesystem);
    expect(await machine.run(`cat ${root}/data/tree/one/leaf`)).toBe('leaf of one');
  }
  expect(await readFile(join(machine.root, root, 'data/big'))).toEqual(bigContent());

  // Another version, from a copy that differs, and back: containers read on, and what their object filesystem runs from stays.
  await machine.run('cp -al /opt/gear/current/. /opt/newer && rm /opt/newer/LICENSE && echo other >/opt/newer/LICENSE');
  const first = await machine.run('readlink /opt/gear/current');
  expect(await machine.run('/opt/newer/deploy/install node')).toContain('~ gear-driver restarted');
  expect(await machine.run('readlink /opt/gear/previous; cat /opt/gear/current/LICENSE')).toBe(`${first}\nother`);
  await machine.run('/opt/gear/previous/deploy/install node');
  expect(await machine.run('readlink /opt/gear/current')).toBe(first);
  await machine.run('rm -r /opt/newer');
  expect(await machine.run(`cat ${root}/data/tree/three/leaf; pgrep -f objectfs/server.ts`)).toBe(
    `leaf of three\n${objectFilesystem}`,
  );

  await expect(uninstall('node')).rejects.toThrow('stop dockerd and containerd first');
  using client = new PluginClient(join(machine.root, 'run/docker/plugins/gear.sock'));
  for (const id of ['container', 'layer']) {
    await client.put(id);
    await client.remove(id);
  }
  await machine.run('rm -rf /var/lib/docker /var/lib/containers');
  expect(await uninstall('manager --dry-run')).toContain('- /etc/systemd/system/gear-manager.service');
  expect(await uninstall('manager')).toContain('the user gear-manager stays');
  expect(await uninstall('node --purge')).toContain('- /etc/systemd/system/gear-');
  expect(await machine.run('ls -d /run/gear /run/docker/plugins/gear.sock 2>/dev/null || true')).toBe('');
  expect(await uninstall('manager --purge')).toContain('- user gear-manager');
  expect(await stateOf(machine)).toEqual(before);
  expect(await machine.run('pgrep -fa ^/opt/gear || true')).toBe('');

  expect(await uninstall('node')).toContain('Nothing to do');
});

it('installs into a folder, keeps what was edited there, and refuses what is wrong', async () => {
  await using temporary = await temporaryFolder();
  const folder = { path: join(temporary.path, 'stage') };
  const run = async (command: string, ...args: string[]) =>
    await execa(join(projectRoot, 'deploy', command), args, { reject: false, all: true, stdin: 'ignore' });
  const stage = `--root=${folder.path}`;
  for (const [args, message] of [
    [[], 'what is to be installed'],
    [['node', '--colour'], 'unknown option --colour'],
    [['node', '--root=x'], '--root takes an absolute path'],
    [['manager', '--docker'], 'are for a node'],
  ] as const) {
    expect(await run('install', ...args)).toMatchObject({ exitCode: 2, all: expect.stringContaining(message) });
  }
  const wrong = await run('install', 'node', stage, '--set', 'cache-size=much', '--dry-run');
  expect(wrong).toMatchObject({ exitCode: 1, all: expect.stringContaining('--cache-size takes a size') });
  const planned = await run(
    'install',
    'manager',
    stage,
    '--set',
    'root=/srv/store',
    '--set',
    'nfs=ganesha',
    '--set',
    'nfs-listen=127.0.0.1:0',
    '--dry-run',
  );
  for (const name of ['root', 'nfs'])
    expect(planned.all).toContain(`+ /etc/systemd/system/gear-manager.service.d/${name}.conf`);
  expect(await readdir(temporary.path)).toEqual([]);

  const config = join(folder.path, 'etc/gear/driver.conf');
  const daemon = join(folder.path, 'etc/docker/daemon.json');
  await mkdir(join(folder.path, 'etc/docker'), { recursive: true });
  await writeFile(daemon, '{}\n');
  expect((await run('install', 'node', stage, '--set=cache-size=5G', '--docker=graphdriver')).exitCode).toBe(0);
  await writeFile(daemon, '{ "storage-driver": "gear", "debug": true }\n');
  expect(await readFile(config, 'utf8')).toMatch(/\ncache-size = 5G\n$/);
  // Told otherwise, a file that nobody edited changes; one that somebody edited does not.
  expect((await run('install', 'node', stage, '--set=cache-size=6G')).all).toContain('~ /etc/gear/driver.conf');
  await appendFile(config, 'fill = idle\n');
  expect((await run('install', 'node', stage, '--set=cache-size=7G')).all).toContain('stays as it is');
  expect(await readFile(config, 'utf8')).toMatch(/\ncache-size = 6G\nfill = idle\n$/);
  const taken = (await run('uninstall', 'node', stage)).all;
  expect(taken).toContain('driver.conf was edited and stays');
  expect(taken).toContain('+ /etc/docker/daemon.json.before-gear');
  expect(await readFile(`${daemon}.before-gear`, 'utf8')).toBe('{}\n');
  expect(await readFile(daemon, 'utf8')).toContain('"debug": true');
  expect(await readdir(join(folder.path, 'opt/gear'), { recursive: true })).toEqual([
    'installed',
    'installed/node.left',
  ]);
  expect(await readdir(join(folder.path, 'etc'), { recursive: true })).toEqual(
    expect.arrayContaining(['docker', 'gear', 'gear/driver.conf']),
  );
  expect(await readdir(join(folder.path, 'etc'))).toEqual(['docker', 'gear']);
  // What a plain uninstall let stay goes when it is told to.
  expect((await run('uninstall', 'node', stage)).all).toContain('Nothing to do');
  expect((await run('uninstall', 'node', stage, '--purge')).all).toContain('- /etc/gear/driver.conf');
  expect(await readdir(folder.path, { recursive: true })).toEqual([
    'etc',
    'etc/docker',
    'etc/docker/daemon.json',
    'etc/docker/daemon.json.before-gear',
  ]);
});

it.each([
  ['manager', 'node', 'both'],
  ['node', 'manager', 'only one, which is installed again'],
] as const)(
  'leaves nothing of %s and %s, after data and configuration had stayed: %s',
  async (first, second, which) => {
    await using temporary = await temporaryFolder();
    const folder = join(temporary.path, 'stage');
    const run = async (command: string, role: string, ...args: string[]) =>
      (await execa(join(projectRoot, 'deploy', command), [role, `--root=${folder}`, ...args], { stdin: 'ignore' }))
        .stdout;
    const files = async () => (await readdir(folder, { recursive: true })).sort();
    const stores = { manager: '/var/lib/store', node: '/var/lib/gear' };
    const plugins = join(folder, 'run/docker/plugins');
    await mkdir(join(folder, 'var/lib'), { recursive: true });
    await mkdir(plugins, { recursive: true });
    const before = await files();
    for (const role of ['node', 'manager'] as const) {
      await run('install', role, `--set=root=${stores[role]}`);
      await mkdir(join(folder, stores[role], 'data'), { recursive: true });
    }
    await appendFile(join(folder, 'etc/gear/driver.conf'), '# edited\n');
    await mkdir(join(folder, 'run/gear'));
    // As a driver leaves it that was killed.
    const server = createServer().listen(join(plugins, 'gear.sock'));
    onTestFinished(() => void server.close());
    await once(server, 'listening');

    await run('uninstall', first);
    if (which === 'both') await run('uninstall', second);
    else await run('install', first);
    expect(await files()).toEqual(
      expect.arrayContaining(['etc/gear/driver.conf', 'var/lib/gear/data', 'var/lib/store/data']),
    );
    for (const role of [first, second]) expect(await run('uninstall', role, '--purge')).toContain(`- ${stores[role]}`);
    expect(await files()).toEqual(before);
  },
);
