import { execa } from 'execa';
import { program } from './packages.ts';

export interface RunOptions {
  readonly input?: string | Uint8Array;
  /** Milliseconds. Default 120,000. */
  readonly timeout?: number;
  readonly signal?: AbortSignal | undefined;
}

/** What a command gave. */
export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What the tests read of `docker inspect`, of a container or of an image. */
export interface Inspection {
  readonly Id: string;
  readonly Image: string;
  readonly RepoDigests: readonly string[];
  readonly RepoTags: readonly string[];
  readonly Size: number;
  readonly RootFS: { readonly Layers: readonly string[] };
  readonly GraphDriver: { readonly Name: string; readonly Data: Readonly<Record<string, string>> | null };
  readonly State: {
    readonly Running: boolean;
    readonly Pid: number;
    readonly ExitCode: number;
    readonly Status: string;
  };
  readonly Config: Readonly<Record<string, unknown>>;
}

/** The docker command line against one daemon, with a configuration folder of its own. */
export class DockerClient {
  readonly #environment: NodeJS.ProcessEnv;

  constructor(socket: string, configFolder: string) {
    // The classic builder: a graphdriver's layers are built by the daemon itself.
    this.#environment = { DOCKER_HOST: `unix://${socket}`, DOCKER_CONFIG: configFolder, DOCKER_BUILDKIT: '0' };
  }

  /** The variables that make another program's docker client talk to this daemon. */
  get environment(): NodeJS.ProcessEnv {
    return { ...this.#environment };
  }

  /** Runs `docker ARGS` and gives what came out, whatever the exit code. */
  async attempt(args: readonly string[], { input, timeout = 120_000, signal }: RunOptions = {}): Promise<Outcome> {
    const result = await execa(program('docker'), args, {
      env: this.#environment,
      reject: false,
      timeout,
      ...cancelledBy(signal),
      ...(input === undefined ? { stdin: 'ignore' as const } : { input }),
    });
    signal?.throwIfAborted();
    if (result.timedOut) throw new Error(`docker ${args.join(' ')}: not within ${timeout} ms\n${result.stderr}`);
    return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr };
  }

  /** Runs `docker ARGS`; gives standard output without the last newline. Throws when it fails. */
  async run(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const { exitCode, stdout, stderr } = await this.attempt(args, options);
    if (exitCode !== 0) throw new Error(`docker ${args.join(' ')}: exit code ${exitCode}\n${stderr}\n${stdout}`);
    return stdout;
  }

  /** Runs `docker ARGS`; gives the milliseconds from its start to the first line of output, and all of the output. Throws when it fails. */
  async firstLine(
    args: readonly string[],
    { timeout = 600_000, signal }: RunOptions = {},
  ): Promise<{ milliseconds: number; output: string }> {
    const started = performance.now();
    const running = execa(program('docker'), args, {
      env: this.#environment,
      stdin: 'ignore',
      timeout,
      ...cancelledBy(signal),
    });
    let first: number | undefined;
    for (const stream of [running.stdout, running.stderr]) {
      stream.on('data', (text: Buffer) => {
        if (text.includes('\n')) first ??= performance.now();
      });
    }
    const { stdout, stderr } = await running;
    return { milliseconds: (first ?? performance.now()) - started, output: stdout === '' ? stderr : stdout };
  }

  /** Runs `docker ARGS` and gives standard output as bytes. */
  async bytes(args: readonly string[], { input, timeout = 120_000 }: RunOptions = {}): Promise<Buffer> {
    const { stdout } = await execa(program('docker'), args, {
      env: this.#environment,
      encoding: 'buffer',
      timeout,
      maxBuffer: 1 << 30,
      ...(input === undefined ? { stdin: 'ignore' as const } : { input }),
    });
    return Buffer.from(stdout);
  }

  /** `docker inspect` of one thing. */
  async inspect(name: string): Promise<Inspection> {
    const [found] = JSON.parse(await this.run(['inspect', name])) as Inspection[];
    if (found === undefined) throw new Error(`docker inspect ${name}: nothing`);
    return found;
  }

  /** `docker run --rm IMAGE COMMAND...` without a network: standard output. */
  async once(image: string, command: readonly string[], options: readonly string[] = []): Promise<string> {
    return await this.run(['run', '--rm', '--network=none', ...options, image, ...command]);
  }

  /** `docker run --detach`: the container's id. */
  async detached(image: string, command: readonly string[], options: readonly string[] = []): Promise<string> {
    return await this.run(['run', '--detach', '--network=none', ...options, image, ...command]);
  }

  /** Removes every container, running or not. */
  async removeAll(): Promise<void> {
    const ids = (await this.run(['ps', '--all', '--quiet', '--no-trunc'])).split('\n').filter((id) => id !== '');
    if (ids.length > 0) await this.run(['rm', '--force', '--volumes', ...ids]);
  }
}

/** execa's options for a signal that may be missing. */
export function cancelledBy(signal: AbortSignal | undefined): { cancelSignal?: AbortSignal } {
  return signal === undefined ? {} : { cancelSignal: signal };
}
