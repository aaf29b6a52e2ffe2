import { once } from 'node:events';
import { chmod, cp, mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { basename, dirname, join } from 'node:path';
import { execa } from 'execa';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { projectRoot } from '../../deploy/sandbox/gear.ts';
import { RunningProcess } from '../../deploy/sandbox/process.ts';
import type { VmKernel } from './vm-kernel.ts';

/** The host's loopback as a guest sees it. */
export const HOST_IN_VM = '10.0.2.2';

/** What only building, checking and testing needs. */
const NOT_AT_RUN_TIME =
  /^(typescript|vite|vitest|rolldown|lightningcss.*|ts-proto.*|ts-poet|dprint-node|postcss|@typescript|@biomejs|@rolldown|@oxc-project|@vitest|@types|\.vite|\.bin)$/;

const PROGRAMS = ['/bin/busybox', '/bin/mount', '/bin/umount', '/bin/dd', '/bin/cat', '/sbin/losetup'];

const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /order); do /bin/busybox insmod /modules/$module || echo "no $module"; done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /init
`;

const START = `#!/bin/busybox sh
export PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs tmp /tmp
busybox ip link set lo up
busybox ip link set eth0 up
busybox ip address add 10.0.2.15/24 dev eth0
busybox ip route add default via ${HOST_IN_VM}
cd /gear
node --disable-warning=ExperimentalWarning SCRIPT
echo "guest: the script ended with $?"
busybox poweroff -f
`;

/** What the guest asks of the host, by name; what is returned goes back as JSON. */
export type HostCalls = Readonly<Record<string, (params: unknown) => unknown>>;

export interface VmOptions {
  readonly kernel: VmKernel;
  /** From the project's root. Run by Node in the guest; it finds `facts` in /facts.json, and as `calls` an address there that it may POST to. */
  readonly script: string;
  readonly facts: Readonly<Record<string, unknown>>;
  readonly calls: HostCalls;
}

async function copyProgram(path: string, root: string): Promise<void> {
  const { stdout } = await execa('ldd', [path], { reject: false });
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] as string);
  for (const file of [path, ...libraries]) {
    await mkdir(dirname(join(root, file)), { recursive: true });
    await cp(file, join(root, file), { dereference: true, force: true });
  }
}

/** The guest's root filesystem: Node, the project without what only tests need, a few programs. */
async function makeDisk(folder: string, { script, facts }: VmOptions, calls: string): Promise<string> {
  const root = join(folder, 'root');
  for (const name of ['proc', 'sys', 'dev', 'tmp', 'usr/bin', 'gear/node_modules', 'gear/test'])
    await mkdir(join(root, name), { recursive: true });
  for (const program of PROGRAMS) await copyProgram(program, root);
  await copyProgram(process.execPath, root);
  await cp(process.execPath, join(root, 'usr/bin/node'), { force: true });
  for (const name of await readdir(join(projectRoot, 'node_modules'))) {
    if (NOT_AT_RUN_TIME.test(name)) continue;
    const filter = (path: string) => !/node_modules\/@bufbuild\/buf/.test(path);
    await cp(join(projectRoot, 'node_modules', name), join(root, 'gear/node_modules', name), {
      recursive: true,
      filter,
    });
  }
  for (const name of ['core', 'driver', 'proto', 'package.json'])
    await cp(join(projectRoot, name), join(root, 'gear', name), { recursive: true });
  await mkdir(dirname(join(root, 'gear', script)), { recursive: true });
  await cp(join(projectRoot, script), join(root, 'gear', script));
  await writeFile(join(root, 'facts.json'), JSON.stringify({ ...facts, calls }));
  await writeFile(join(root, 'init'), START.replace('SCRIPT', script));
  await chmod(join(root, 'init'), 0o755);
  const disk = join(folder, 'disk');
  await execa('mkfs.ext4', ['-q', '-F', '-O', '^has_journal', '-d', root, disk, '700M']);
  return disk;
}

/** A small filesystem in memory that loads the modules and goes on to the disk. */
async function makeInitramfs(folder: string, { modules }: VmKernel): Promise<string> {
  const root = join(folder, 'initramfs');
  await mkdir(join(root, 'modules'), { recursive: true });
  await mkdir(join(root, 'bin'));
  await cp('/bin/busybox', join(root, 'bin/busybox'), { dereference: true });
  for (const path of modules) await cp(path, join(root, 'modules', basename(path)));
  await writeFile(join(root, 'order'), modules.map((path) => basename(path)).join('\n'));
  await writeFile(join(root, 'init'), INIT);
  await chmod(join(root, 'init'), 0o755);
  const image = join(folder, 'initramfs.cpio');
  await execa('busybox', ['sh', '-c', `busybox find . | busybox cpio -o -H newc >"$1"`, 'cpio', image], { cwd: root });
  return image;
}

/** Answers the guest's calls: POST /NAME with JSON, answered with JSON. */
async function serveCalls(calls: HostCalls): Promise<AsyncDisposable & { port: number }> {
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      const call = calls[(request.url ?? '').slice(1)];
      Promise.try(() => {
        if (call === undefined) throw new Error(`the guest calls ${request.url}`);
        return call(JSON.parse(Buffer.concat(pieces).toString() || 'null'));
      }).then(
        (result) => response.end(JSON.stringify(result ?? null)),
        (error: unknown) => response.writeHead(500).end(String(error)),
      );
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Boots a machine of its own without hardware help, lets it run the script and waits for its end. Gives what its console said. */
export async function runInVm(options: VmOptions, timeout: number): Promise<string> {
  await using folder = await temporaryFolder();
  await using calls = await serveCalls(options.calls);
  const disk = await makeDisk(folder.path, options, `http://${HOST_IN_VM}:${calls.port}`);
  const initramfs = await makeInitramfs(folder.path, options.kernel);
  await using machine = await RunningProcess.start({
    name: 'qemu',
    command: 'qemu-system-x86_64',
    args: [
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', '1024', '-nographic', '-no-reboot'],
      ...['-kernel', options.kernel.image, '-initrd', initramfs, '-append', 'console=ttyS0 quiet panic=-1'],
      ...['-drive', `file=${disk},format=raw,if=virtio,cache=unsafe`, '-nic', 'user,model=virtio-net-pci'],
    ],
    grace: 500,
  });
  await machine.waitForOutput(/guest: the script ended with (\d+)/, timeout);
  return machine.output;
}
