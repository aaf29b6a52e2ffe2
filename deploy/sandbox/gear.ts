import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { endProcesses, findProcesses, mountsBelow, runTag, temporaryFolder } from './cleanup.ts';
import { cancelledBy, type Outcome } from './docker.ts';
import { RunningProcess } from './process.ts';

/** The project's root and its launcher. */
export const projectRoot: string = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const launcher: string = join(projectRoot, 'gear');

export interface GearOptions {
  /** Milliseconds. Default 120,000. */
  readonly timeout?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
}

/** Runs `./gear ARGS`; gives what came out, whatever the exit code. */
export async function gear(
  args: readonly string[],
  { timeout = 120_000, env = {}, signal }: GearOptions = {},
): Promise<Outcome> {
  const options = {
    reject: false,
    timeout,
    env: { GEAR_CONFIG: '', ...env },
    stdin: 'ignore',
    ...cancelledBy(signal),
  } as const;
  const result = await execa(launcher, args, options);
  signal?.throwIfAborted();
  if (result.timedOut) throw new Error(`gear ${args.join(' ')}: not within ${timeout} ms\n${result.stderr}`);
  return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr };
}

/** Runs `./gear ARGS --json` and gives the value; throws when the command fails. */
export async function gearJson<T>(args: readonly string[], options?: GearOptions): Promise<T> {
  const { exitCode, stdout, stderr } = await gear([...args, '--json'], options);
  if (exitCode !== 0) throw new Error(`gear ${args.join(' ')}: exit code ${exitCode}\n${stderr}`);
  return JSON.parse(stdout) as T;
}

/** A process of ours that can be killed and started again on the same data and the same addresses. */
export interface Service extends AsyncDisposable {
  readonly folder: string;
  readonly process: RunningProcess;
  stop(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
}

export interface ManagerOptions {
  /** "host:port" of registries without TLS. */
  readonly insecureRegistries?: readonly string[];
  /** Where its root is made. Default: a temporary folder. */
  readonly place?: string;
  /** Further arguments of `gear manager`. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface TestManager extends Omit<Service, 'start'> {
  /** Starts it again, with further arguments this time. */
  start(args?: readonly string[]): Promise<void>;
  readonly root: string;
  /** "127.0.0.1:PORT" of gRPC, of the monitor and of HTTP. */
  readonly address: string;
  readonly monitor: string;
  readonly http: string;
}

interface Addresses {
  readonly grpc: string;
  readonly monitor: string;
  readonly http: string;
}

/** Starts `gear manager` with a root of its own on free ports and waits until it serves. */
export async function startManager(options: ManagerOptions = {}): Promise<TestManager> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const root = join(options.place ?? folder.path, 'manager');
  const file = join(root, 'addresses.json');
  const insecure = (options.insecureRegistries ?? []).flatMap((host) => ['--insecure-registry', host]);
  const launch = async (ports: readonly string[]) => {
    await rm(file, { force: true });
    const running = await RunningProcess.start({
      name: 'manager',
      command: launcher,
      args: ['manager', '--root', root, ...ports, ...insecure, ...(options.args ?? [])],
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    try {
      const addresses = await running.waitUntil('addresses.json', async () => await readJson<Addresses>(file));
      return { running, addresses };
    } catch (error) {
      await running[Symbol.asyncDispose]();
      throw error;
    }
  };
  const first = await launch([
    '--listen',
    '127.0.0.1:0',
    '--monitor-listen',
    '127.0.0.1:0',
    '--http-listen',
    '127.0.0.1:0',
  ]);
  let running = first.running;
  const { addresses } = first;
  stack.defer(() => running[Symbol.asyncDispose]());
  const owned = stack.move();
  const { grpc, monitor, http } = addresses;
  return {
    folder: folder.path,
    root,
    address: grpc,
    monitor,
    http,
    get process() {
      return running;
    },
    stop: () => running.stop(),
    kill: () => running.kill(),
    start: async (args = []) => {
      ({ running } = await launch(['--listen', grpc, '--monitor-listen', monitor, '--http-listen', http, ...args]));
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export interface DriverOptions {
  /** "HOST:PORT" of a manager. */
  readonly manager?: string;
  readonly monitor?: string;
  /** Where its root is made. Default: a temporary folder. */
  readonly place?: string;
  /** Further arguments of `gear driver`. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface TestDriver extends Service {
  readonly root: string;
  /** What `dockerd --storage-driver` takes. */
  readonly plugin: string;
  readonly socket: string;
}

/** Where dockerd looks for plugins; it knows no other folder for sockets. */
const PLUGINS = '/run/docker/plugins';

/**
 * Starts `gear driver` with a root and a plugin name of its own and waits until it serves. Disposing it ends all of its processes, unmounts
 * and deletes what it made; dispose the dockerd that uses it first.
 */
export async function startDriver(options: DriverOptions = {}): Promise<TestDriver> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const root = join(options.place ?? folder.path, 'driver');
  const plugin = `gear-${runTag}-${randomBytes(4).toString('hex')}`;
  const socket = join(PLUGINS, `${plugin}.sock`);
  const ready = join(root, 'run', 'driver.json');
  await mkdir(PLUGINS, { recursive: true });
  stack.defer(() => rm(socket, { force: true }));
  // The object filesystem and its supervisor outlive the driver, on purpose.
  stack.defer(async () => {
    await endProcesses(await findProcesses(({ commandLine }) => commandLine.includes(root)));
  });
  const launch = async () => {
    await rm(ready, { force: true });
    const launched = await RunningProcess.start({
      name: 'driver',
      command: launcher,
      args: [
        ...['driver', '--root', root, '--socket', socket, '--plugin-name', plugin],
        ...(options.manager === undefined ? [] : ['--manager', options.manager]),
        ...(options.monitor === undefined ? [] : ['--monitor', options.monitor]),
        ...(options.args ?? []),
      ],
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    try {
      await launched.waitUntil('ready', async () => (await readJson(ready)) !== undefined);
      return launched;
    } catch (error) {
      await launched[Symbol.asyncDispose]();
      throw error;
    }
  };
  let running = await launch();
  stack.defer(() => shutDownNode(root));
  stack.defer(() => running[Symbol.asyncDispose]());
  const owned = stack.move();
  return {
    folder: folder.path,
    root,
    plugin,
    socket,
    get process() {
      return running;
    },
    stop: () => running.stop(),
    kill: () => running.kill(),
    start: async () => {
      running = await launch();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

// What an operator does to take Gear off a node; it must leave nothing mounted.
async function shutDownNode(root: string): Promise<void> {
  const { exitCode, stderr } = await gear(['driver', '--root', root, '--shutdown']);
  const left = mountsBelow(root);
  if (exitCode !== 0 || left.length > 0) {
    throw new Error(
      `gear driver --shutdown: exit code ${exitCode}, mounted: ${left.join(', ') || 'nothing'}\n${stderr}`,
    );
  }
}

async function readJson<T>(path: string): Promise<T | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as T);
}
