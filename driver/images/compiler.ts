import { Worker } from 'node:worker_threads';
import { GearError } from '#core/errors.ts';
import type { CompileReply, CompileRequest, TableWritten } from './compile.ts';

/** So many compile at a time; the others wait for one of them. */
const MOST = 2;
/** Milliseconds after which an idle thread that has compiled ends: it may have grown with a stranger's index. */
const IDLE = 1_000;

interface Job {
  readonly request: CompileRequest;
  readonly onTable: (() => void) | undefined;
  readonly resolve: (reply: CompileReply) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Threads that compile indexes: a stranger's index of any size neither stops the event loop nor leaves memory large for long. One that has just
 * compiled is kept at hand for a while, for starting a thread takes longer than compiling a small index. They keep no process alive.
 */
export class Compiler {
  readonly #idle: Thread[] = [];
  readonly #waiting: Job[] = [];
  #busy = 0;

  /** Starts a thread, so that the first compilation need not wait for it. */
  warmUp(): void {
    if (this.#idle.length === 0 && this.#busy === 0) this.#idle.push(new Thread());
  }

  /** See compileIndex. */
  async compile(request: CompileRequest, onTable?: () => void): Promise<CompileReply> {
    const { promise, resolve, reject } = Promise.withResolvers<CompileReply>();
    this.#waiting.push({ request, onTable, resolve, reject });
    this.#next();
    return await promise;
  }

  #next(): void {
    if (this.#busy >= MOST) return;
    const job = this.#waiting.shift();
    if (job === undefined) return;
    const thread = this.#idle.pop() ?? new Thread();
    thread.stay();
    this.#busy++;
    void thread
      .compile(job)
      .then(job.resolve, job.reject)
      .finally(() => {
        this.#busy--;
        if (thread.alive) this.#rest(thread);
        this.#next();
      });
  }

  #rest(thread: Thread): void {
    this.#idle.push(thread);
    thread.endAfter(IDLE, () => {
      this.#idle.splice(this.#idle.indexOf(thread), 1);
    });
  }
}

/** One thread, which compiles one index at a time. */
class Thread {
  readonly #worker = new Worker(new URL('./compile-worker.ts', import.meta.url), {
    resourceLimits: { maxYoungGenerationSizeMb: 16 },
  });
  #timer: NodeJS.Timeout | undefined;
  #current: PromiseWithResolvers<CompileReply> | undefined;
  #onTable: (() => void) | undefined;
  alive = true;

  constructor() {
    this.#worker.on('message', (message: CompileReply | TableWritten) => {
      if (message === 'table') this.#onTable?.();
      else this.#current?.resolve(message);
    });
    this.#worker.on('error', (error) => this.#ended(error));
    this.#worker.on('exit', (code) => this.#ended(new GearError('internal', `the index compiler ended with ${code}`)));
    this.#worker.unref();
  }

  async compile({ request, onTable }: Pick<Job, 'request' | 'onTable'>): Promise<CompileReply> {
    this.#current = Promise.withResolvers();
    this.#onTable = onTable;
    this.#worker.ref();
    try {
      this.#worker.postMessage(request);
      return await this.#current.promise;
    } finally {
      this.#current = undefined;
      this.#onTable = undefined;
      this.#worker.unref();
    }
  }

  endAfter(milliseconds: number, ended: () => void): void {
    this.#timer = setTimeout(() => {
      this.alive = false;
      ended();
      void this.#worker.terminate();
    }, milliseconds).unref();
  }

  stay(): void {
    clearTimeout(this.#timer);
  }

  #ended(error: unknown): void {
    this.alive = false;
    this.#current?.reject(error);
  }
}
