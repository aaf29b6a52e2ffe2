import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from '#core/abort.ts';
import { RUN_VARIABLE, runName } from './cleanup.ts';

/** What a child process writes is kept up to this many characters (its last ones). */
const KEPT = 4_000_000;

export interface ProcessOptions {
  /** For messages and the log file: "dockerd", "driver". */
  readonly name: string;
  readonly command: string;
  readonly args?: readonly string[];
  readonly cwd?: string;
  /** Added to this process's own environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Milliseconds between SIGTERM and SIGKILL when it is stopped. Default 10,000. */
  readonly grace?: number;
  /** Runs after the process has ended (also when it ended by itself) and before the disposal returns. */
  readonly afterwards?: () => Promise<void>;
}

/** A child process whose output is kept. Disposing it ends it by its id: SIGTERM, then SIGKILL. */
export class RunningProcess implements AsyncDisposable {
  readonly name: string;
  readonly child: ChildProcess;
  readonly #options: ProcessOptions;
  readonly #closed: Promise<unknown>;
  #output = '';

  private constructor(options: ProcessOptions, child: ChildProcess) {
    this.name = options.name;
    this.child = child;
    this.#options = options;
    this.#closed = once(child, 'exit');
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-KEPT);
      });
    }
  }

  /** Starts it, and waits until the system has: a program that is not there throws here. */
  static async start(options: ProcessOptions): Promise<RunningProcess> {
    const child = spawn(options.command, options.args ?? [], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: Ctrl-C on a terminal is for us, and we end our children in the right order.
      detached: true,
      // The machine's own configuration of Gear, if there is one, is not for what is started here.
      env: { ...process.env, [RUN_VARIABLE]: runName, GEAR_CONFIG: '', ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    const running = new RunningProcess(options, child);
    await once(child, 'spawn');
    const folder = process.env['GEAR_TEST_LOGS'];
    if (folder !== undefined) {
      await mkdir(folder, { recursive: true });
      const file = createWriteStream(join(folder, `${options.name}-${child.pid}.log`));
      child.stdout?.pipe(file, { end: false });
      child.stderr?.pipe(file, { end: false });
      child.once('close', () => file.end());
    }
    return running;
  }

  get pid(): number {
    return this.child.pid as number;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Its exit code; undefined while it runs or when a signal ended it. */
  get exitCode(): number | undefined {
    return this.child.exitCode ?? undefined;
  }

  /** Standard output and standard error, as they came. */
  get output(): string {
    return this.#output;
  }

  /** Waits until `check` holds; throws with the end of the output when the process ends first or the time is up. */
  async waitUntil<T>(
    what: string,
    check: () => T | undefined | false | Promise<T | undefined | false>,
    timeout = 60_000,
  ): Promise<T> {
    try {
      return await until(
        `${this.name}: ${what}`,
        async () => {
          const value = await check();
          if (value !== undefined && value !== false) return value;
          if (!this.running) throw new Error(`${this.name} ended (${this.#ending()}) before: ${what}`);
          return undefined;
        },
        { timeout },
      );
    } catch (error) {
      throw new Error(`${(error as Error).message}\n--- end of its output ---\n${this.#output.slice(-4000)}`, {
        cause: error,
      });
    }
  }

  /** Waits until the output matches. */
  async waitForOutput(pattern: RegExp, timeout?: number): Promise<RegExpExecArray> {
    return await this.waitUntil(`output ${pattern}`, () => pattern.exec(this.#output) ?? undefined, timeout);
  }

  /** Waits for its end; gives the exit code, or the name of the signal that ended it. */
  async ended(): Promise<number | NodeJS.Signals> {
    if (this.running) await this.#closed;
    return this.child.exitCode ?? (this.child.signalCode as NodeJS.Signals);
  }

  /** Sends a signal; nothing happens when it has ended. */
  signal(signal: NodeJS.Signals): void {
    if (this.running) this.child.kill(signal);
  }

  /** Sends SIGKILL and waits for the end. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended();
  }

  /** Sends SIGTERM, after the grace time SIGKILL, and waits for the end. */
  async stop(): Promise<void> {
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), this.#options.grace ?? 10_000);
    try {
      await this.ended();
    } finally {
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stop();
    } finally {
      await this.#options.afterwards?.();
    }
  }

  #ending(): string {
    return this.child.signalCode ?? `exit code ${this.child.exitCode}`;
  }
}
