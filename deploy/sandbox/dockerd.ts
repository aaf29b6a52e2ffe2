import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { basename, join } from 'node:path';
import { execa } from 'execa';
import { until } from '#core/abort.ts';
import { endProcesses, findProcesses, temporaryFolder } from './cleanup.ts';
import { DockerClient } from './docker.ts';
import { program } from './packages.ts';
import { RunningProcess } from './process.ts';

export interface DockerdOptions {
  /** As `dockerd --storage-driver`: "overlay2" (default), or the name of a plugin. */
  readonly storageDriver?: string;
  /** `--storage-opt`, each one. */
  readonly storageOptions?: readonly string[];
  /** "host:port" of registries without TLS; those on 127.0.0.0/8 need not be named. */
  readonly insecureRegistries?: readonly string[];
  /** URLs: "http://127.0.0.1:5000". */
  readonly registryMirrors?: readonly string[];
  /** Containers outlive a restart of the daemon. */
  readonly liveRestore?: boolean;
  /** Further arguments. */
  readonly args?: readonly string[];
}

/** A private dockerd: own data, sockets, containerd and cgroup parent, no bridge, no firewall rules. */
export interface Dockerd extends AsyncDisposable {
  readonly docker: DockerClient;
  readonly socket: string;
  readonly folder: string;
  readonly dataRoot: string;
  /** The daemon as it runs now (another one after a restart). */
  readonly process: RunningProcess;
  /** Stops the daemon (SIGTERM, or SIGKILL with `kill`) and leaves everything that it keeps. */
  stop(options?: { kill?: boolean }): Promise<void>;
  /** Starts it again on the same data. */
  start(): Promise<void>;
}

/** Starts a dockerd and waits until it answers. Disposing it removes its containers, ends its processes and unmounts and deletes its folders. */
export async function startDockerd(options: DockerdOptions = {}): Promise<Dockerd> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const paths = {
    dataRoot: join(folder.path, 'data'),
    execRoot: join(folder.path, 'exec'),
    socket: join(folder.path, 'docker.sock'),
    pidFile: join(folder.path, 'docker.pid'),
    clientConfig: join(folder.path, 'client'),
  };
  await mkdir(paths.clientConfig);
  await writeFile(join(paths.clientConfig, 'config.json'), '{}');
  const cgroupParent = basename(folder.path);
  const args = [
    '--experimental',
    ...['--data-root', paths.dataRoot, '--exec-root', paths.execRoot, '--pidfile', paths.pidFile],
    ...['--host', `unix://${paths.socket}`, '--config-file', join(folder.path, 'none.json')],
    ...['--storage-driver', options.storageDriver ?? 'overlay2'],
    ...(options.storageOptions ?? []).flatMap((option) => ['--storage-opt', option]),
    ...['--bridge=none', '--iptables=false', '--ip-masq=false', `--cgroup-parent=/${cgroupParent}`],
    ...(options.insecureRegistries ?? []).map((host) => `--insecure-registry=${host}`),
    ...(options.registryMirrors ?? []).map((url) => `--registry-mirror=${url}`),
    ...(options.liveRestore === true ? ['--live-restore'] : []),
    ...(options.args ?? []),
  ];
  await writeFile(join(folder.path, 'none.json'), '{}');
  stack.defer(() => removeCgroups(cgroupParent));
  // Shims and a containerd whose dockerd was killed are nobody's children any more.
  stack.defer(async () => {
    await endProcesses(await findProcesses(({ commandLine }) => commandLine.includes(folder.path)));
  });
  const docker = new DockerClient(paths.socket, paths.clientConfig);
  const startDaemon = async () => {
    const daemon = await RunningProcess.start({ name: 'dockerd', command: program('dockerd'), args, grace: 20_000 });
    try {
      await daemon.waitUntil('answers', () => answers(paths.socket), 60_000);
      return daemon;
    } catch (error) {
      await daemon[Symbol.asyncDispose]();
      throw error;
    }
  };
  let daemon = await startDaemon();
  stack.defer(async () => {
    try {
      if (daemon.running) await docker.removeAll();
    } finally {
      await daemon[Symbol.asyncDispose]();
    }
  });
  const owned = stack.move();
  return {
    docker,
    socket: paths.socket,
    folder: folder.path,
    dataRoot: paths.dataRoot,
    get process() {
      return daemon;
    },
    stop: async ({ kill = false } = {}) => {
      await (kill ? daemon.kill() : daemon.stop());
      await containerdGone(join(paths.execRoot, 'containerd/containerd.pid'));
    },
    start: async () => {
      if (daemon.running) throw new Error('dockerd already runs');
      daemon = await startDaemon();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Whether a dockerd answers a ping on this socket. */
async function answers(socketPath: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const ping = request({ socketPath, path: '/_ping', timeout: 5000 }, (answer) => {
    answer.resume();
    resolve(answer.statusCode === 200);
  });
  ping.on('error', () => resolve(false)).on('timeout', () => ping.destroy());
  ping.end();
  return await promise;
}

// A containerd whose dockerd was killed dies with it; as long as its parent has not noticed, the next dockerd takes it for alive.
async function containerdGone(pidFile: string): Promise<void> {
  const pid = await readFile(pidFile, 'utf8').catch(() => undefined);
  if (pid !== undefined) await until('the end of containerd', () => !existsSync(`/proc/${pid}`));
}

// dockerd leaves the parent cgroup of its containers behind.
async function removeCgroups(name: string): Promise<void> {
  const tops = [
    '/sys/fs/cgroup',
    ...(await readdir('/sys/fs/cgroup').catch(() => [])).map((n) => `/sys/fs/cgroup/${n}`),
  ];
  for (const top of tops) {
    const folder = join(top, name);
    const { stdout } = await execa('find', [folder, '-depth', '-type', 'd'], { reject: false });
    for (const path of stdout.split('\n').filter((line) => line !== '')) await rmdir(path).catch(() => {});
  }
}
