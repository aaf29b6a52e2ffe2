import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { until } from '#core/abort.ts';
import { endProcesses, findProcesses, temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { program } from '../../deploy/sandbox/packages.ts';
import { RunningProcess } from '../../deploy/sandbox/process.ts';

export interface ContainerdOptions {
  /** The socket of a proxy snapshotter, served under the name "gear". */
  readonly snapshotter?: string;
  /** The image of CRI's sandboxes. */
  readonly pauseImage?: string;
}

/** A private containerd: own data, sockets and configuration, CRI included. */
export interface Containerd extends AsyncDisposable {
  readonly socket: string;
  readonly folder: string;
  readonly process: RunningProcess;
  /** Runs `ctr ARGS`; throws with its output when it fails. Gives what it printed. */
  ctr(...args: readonly string[]): Promise<string>;
  /** Pulls an image by the protocol of remote snapshotters (`ctr-remote images rpull`), for the snapshotter "gear". */
  rpull(image: string, options?: { readonly namespace?: string }): Promise<string>;
  /** Runs a command in a new container to its end and gives what it printed. */
  run(snapshotter: string, image: string, ...command: readonly string[]): Promise<string>;
  /** Starts a container that stays, named `id`, and waits until it runs. */
  start(snapshotter: string, image: string, id: string, ...command: readonly string[]): Promise<void>;
  /** Ends a container at once and removes it with its snapshot. */
  remove(id: string): Promise<void>;
  /** Where a running container's root filesystem is mounted. */
  rootOf(id: string): string;
  stop(options?: { kill?: boolean }): Promise<void>;
  restart(): Promise<void>;
}

const UNUSED = ['aufs', 'btrfs', 'devmapper', 'zfs'].map((name) => `"io.containerd.snapshotter.v1.${name}"`);

function configOf(folder: string, { snapshotter, pauseImage = '' }: ContainerdOptions): string {
  const lines = [
    'version = 2',
    `root = "${folder}/root"`,
    `state = "${folder}/state"`,
    `disabled_plugins = [${UNUSED.join(', ')}]`,
    '[grpc]',
    `address = "${folder}/containerd.sock"`,
    '[debug]',
    'level = "info"',
    '[plugins."io.containerd.grpc.v1.cri"]',
    `sandbox_image = "${pauseImage}"`,
    'disable_tcp_service = true',
    'restrict_oom_score_adj = true',
    '[plugins."io.containerd.grpc.v1.cri".cni]',
    `bin_dir = "${folder}/cni"`,
    `conf_dir = "${folder}/cni"`,
    '[plugins."io.containerd.grpc.v1.cri".containerd]',
    `snapshotter = "${snapshotter === undefined ? 'overlayfs' : 'gear'}"`,
    'disable_snapshot_annotations = false',
    '[plugins."io.containerd.runtime.v1.linux"]',
    'no_shim = false',
  ];
  if (snapshotter !== undefined) lines.push('[proxy_plugins.gear]', 'type = "snapshot"', `address = "${snapshotter}"`);
  return `${lines.join('\n')}\n`;
}

/** Starts a containerd and waits until it answers. Disposing it ends its containers and processes, unmounts and deletes its folders. */
export async function startContainerd(options: ContainerdOptions = {}): Promise<Containerd> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const socket = join(folder.path, 'containerd.sock');
  const config = join(folder.path, 'config.toml');
  await mkdir(join(folder.path, 'cni'));
  await writeFile(config, configOf(folder.path, options));
  // Shims outlive a containerd.
  stack.defer(async () => {
    await endProcesses(await findProcesses(({ commandLine }) => commandLine.includes(folder.path)));
    await removeShimSockets();
  });
  const before = new Set(await shimSockets());
  const removeShimSockets = async () => {
    for (const name of await shimSockets()) {
      if (!before.has(name)) await rm(join(SHIM_SOCKETS, name), { force: true });
    }
  };
  const command = async (tool: 'ctr' | 'ctr-remote', args: readonly string[]) => {
    const result = await execa(program(tool), ['--address', socket, ...args], { reject: false, timeout: 120_000 });
    if (result.exitCode === 0) return result.stdout;
    throw new Error(`${tool} ${args.join(' ')}: exit code ${result.exitCode}\n${result.stderr}\n${result.stdout}`);
  };
  const ctr = async (...args: readonly string[]) => await command('ctr', args);
  const launch = async () => {
    const launched = await RunningProcess.start({
      name: 'containerd',
      command: program('containerd'),
      args: ['-c', config],
    });
    try {
      await launched.waitUntil('answers', async () => {
        const { exitCode } = await execa(program('ctr'), ['--address', socket, 'version'], { reject: false });
        return exitCode === 0;
      });
      return launched;
    } catch (error) {
      await launched[Symbol.asyncDispose]();
      throw error;
    }
  };
  let running = await launch();
  stack.defer(() => running[Symbol.asyncDispose]());
  // A container's processes carry no name of ours: what is left when a test fails has to be ended while containerd still knows it.
  stack.defer(async () => {
    if (!running.running) return;
    for (const namespace of ['default', 'k8s.io']) {
      const tasks = await ctr('--namespace', namespace, 'tasks', 'list', '--quiet');
      for (const id of tasks.split('\n').filter((line) => line !== '')) {
        await ctr('--namespace', namespace, 'tasks', 'delete', '--force', id).catch(() => {});
      }
    }
  });
  const owned = stack.move();
  let count = 0;
  return {
    socket,
    folder: folder.path,
    get process() {
      return running;
    },
    ctr,
    rpull: async (image, { namespace = 'default' } = {}) => {
      const args = ['--namespace', namespace, 'images', 'rpull', '--plain-http', '--snapshotter', 'gear', image];
      return await command('ctr-remote', args);
    },
    run: async (snapshotter, image, ...args) =>
      await ctr('run', '--rm', '--snapshotter', snapshotter, image, `run-${process.pid}-${count++}`, ...args),
    start: async (snapshotter, image, id, ...args) => {
      await ctr('run', '--detach', '--snapshotter', snapshotter, image, id, ...args);
    },
    remove: async (id) => {
      await ctr('tasks', 'kill', '--signal', 'SIGKILL', id);
      await until(
        `the end of ${id}`,
        async () =>
          !/RUNNING/.test((await ctr('tasks', 'list')).split('\n').find((line) => line.startsWith(`${id} `)) ?? ''),
      );
      await ctr('tasks', 'delete', id).catch(() => {});
      await ctr('containers', 'delete', id);
    },
    rootOf: (id) => join(folder.path, 'state/io.containerd.runtime.v2.task/default', id, 'rootfs'),
    stop: async ({ kill = false } = {}) => await (kill ? running.kill() : running.stop()),
    restart: async () => {
      running = await launch();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const SHIM_SOCKETS = '/run/containerd/s';

async function shimSockets(): Promise<string[]> {
  return await readdir(SHIM_SOCKETS).catch(() => []);
}
