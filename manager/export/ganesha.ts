import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { sleep } from '#core/abort.ts';
import { GearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { checkServer } from './check.ts';
import { GANESHA_PATH, ganeshaConfig } from './ganesha-config.ts';
import { logGaneshaLine } from './ganesha-log.ts';
import type { ExportConfig } from './options.ts';
import type { Probe } from './probe-file.ts';
import type { NfsServer, ServerState } from './server.ts';

const START_MS = 20_000;
const CHECK_MS = 3_000;
/** Checks in a row that may fail before a server that is there counts as stuck and is started again. */
const PATIENCE = 4;
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 15_000;
/** A server that ran this long did not fail because of how it was started. */
const SOUND_MS = 60_000;
const STOP_MS = 2_000;

export interface GaneshaOptions {
  readonly config: ExportConfig;
  readonly objects: string;
  /** For its configuration and its state. */
  readonly folder: string;
  readonly probe: Probe;
  readonly log: Logger;
}

/** Runs ganesha.nfsd: started, checked, and started again with growing pauses when it ends or no longer answers. */
class Ganesha implements NfsServer {
  readonly path = GANESHA_PATH;
  readonly #options: GaneshaOptions;
  readonly #stop = new AbortController();
  #state: ServerState = { serving: false, reason: 'it is being started' };
  #child: ChildProcess | undefined;
  #complaint: string | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: GaneshaOptions) {
    this.#options = options;
  }

  get state(): ServerState {
    return this.#state;
  }

  /** Starts it for the first time. Throws failed-precondition when it does not come up. */
  async start(): Promise<void> {
    const { folder, config, objects } = this.#options;
    await mkdir(join(folder, 'state'), { recursive: true, mode: 0o700 });
    await writeFile(join(folder, 'ganesha.conf'), ganeshaConfig(config, { objects, state: join(folder, 'state') }));
    const child = await this.#spawn();
    try {
      await this.#ready(child);
    } catch (error) {
      await end(child);
      throw new GearError(
        'failed-precondition',
        `ganesha.nfsd does not serve ${objects}: ${this.#complaint ?? messageOf(error)}`,
        { cause: error },
      );
    }
    this.#running = this.#supervise(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new GearError('cancelled', 'the NFS server is being stopped'));
    await this.#running;
    if (this.#child !== undefined) await end(this.#child);
  }

  async #supervise(first: ChildProcess): Promise<void> {
    const { log } = this.#options;
    let child = first;
    let pause = FIRST_PAUSE;
    while (!this.#stop.signal.aborted) {
      const began = performance.now();
      await this.#watch(child);
      if (this.#stop.signal.aborted) return;
      await end(child);
      if (performance.now() - began > SOUND_MS) pause = FIRST_PAUSE;
      for (let up = false; !up; ) {
        log.warn({ pause, reason: this.#state.reason }, 'the NFS server is started again');
        await sleep(pause, { signal: this.#stop.signal }).catch(() => {});
        if (this.#stop.signal.aborted) return;
        pause = Math.min(pause * 2, LONGEST_PAUSE);
        up = await this.#again().then(
          (started) => {
            child = started;
            return true;
          },
          (error: unknown) => {
            this.#down(this.#complaint ?? messageOf(error));
            return false;
          },
        );
      }
    }
  }

  async #again(): Promise<ChildProcess> {
    const child = await this.#spawn();
    try {
      await this.#ready(child);
      return child;
    } catch (error) {
      await end(child);
      throw error;
    }
  }

  /** Resolves when the server has ended or is stuck. */
  async #watch(child: ChildProcess): Promise<void> {
    // One for all checks, or each would leave a listener behind.
    const gone = new AbortController();
    void ended(child).then(() => gone.abort());
    const signal = AbortSignal.any([gone.signal, this.#stop.signal]);
    for (let failures = 0; failures < PATIENCE; ) {
      await sleep(CHECK_MS, { signal }).catch(() => {});
      if (this.#stop.signal.aborted) return;
      if (!isRunning(child)) {
        this.#down(`it ended (${child.signalCode ?? `exit code ${child.exitCode}`})`);
        return;
      }
      try {
        await this.#check();
        failures = 0;
        this.#state = { serving: true, reason: '' };
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        failures++;
        this.#down(messageOf(error));
      }
    }
  }

  async #ready(child: ChildProcess): Promise<void> {
    const until = performance.now() + START_MS;
    for (;;) {
      try {
        await this.#check();
        this.#state = { serving: true, reason: '' };
        return;
      } catch (error) {
        this.#stop.signal.throwIfAborted();
        if (!isRunning(child) || performance.now() > until) throw error;
      }
      await sleep(100, { signal: this.#stop.signal });
    }
  }

  async #check(): Promise<void> {
    await checkServer(this.#options.config, this.path, this.#options.probe, this.#stop.signal);
  }

  #down(reason: string): void {
    if (this.#state.serving) this.#options.log.error({ reason }, 'the NFS server does not answer');
    this.#state = { serving: false, reason };
  }

  async #spawn(): Promise<ChildProcess> {
    const { folder, log } = this.#options;
    const files = ['-f', join(folder, 'ganesha.conf'), '-p', join(folder, 'ganesha.pid')];
    // A server without its manager would hold the port and export a store that another may be changing.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'ganesha.nfsd', '-F', ...files, '-L', 'STDERR'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: process.env,
    });
    this.#child = child;
    this.#complaint = undefined;
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.#complaint ??= logGaneshaLine(line, log);
    });
    try {
      await once(child, 'spawn');
    } catch (error) {
      throw new GearError('failed-precondition', `setpriv (util-linux) cannot be run: ${messageOf(error)}`);
    }
    child.on('error', (err) => log.error({ err }, 'ganesha.nfsd'));
    return child;
  }
}

/** Starts ganesha.nfsd and waits until it serves. Throws failed-precondition when it does not. */
export async function startGanesha(options: GaneshaOptions): Promise<NfsServer> {
  const ganesha = new Ganesha(options);
  await ganesha.start();
  return ganesha;
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

async function ended(child: ChildProcess): Promise<void> {
  if (isRunning(child)) await once(child, 'exit');
}

async function end(child: ChildProcess): Promise<void> {
  if (!isRunning(child)) return;
  const exit = ended(child);
  child.kill('SIGTERM');
  // Nothing is lost: it holds no state that matters.
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await exit;
  clearTimeout(timer);
}
