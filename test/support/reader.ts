import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Reads files in a process of its own, so that a mount that hangs hangs neither the test nor its cleaning up. Errors have the errno's name as `code`. */
export class Reader implements AsyncDisposable {
  readonly #child = fork(fileURLToPath(new URL('./reader-process.ts', import.meta.url)), {
    execArgv: ['--disable-warning=ExperimentalWarning'],
  });
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #exited = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
  #next = 0;

  constructor() {
    this.#child.on('message', (reply: { id: number; result?: unknown; code?: string }) => {
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if (reply.code === undefined) waiting?.resolve(reply.result);
      else waiting?.reject(Object.assign(new Error(reply.code), { code: reply.code }));
    });
    void this.#exited.then(() => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the reader was killed'));
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** `latin1`: a path whose characters are bytes. */
  async open(path: string | { readonly latin1: string }): Promise<number> {
    return (await this.#ask({ action: 'open', path })) as number;
  }

  /** Finds the file and does not open it yet: opening what this gives needs no look-up. */
  async find(path: string): Promise<string> {
    return (await this.#ask({ action: 'find', path })) as string;
  }

  /** `length` -1: the whole file. */
  async read(fd: number, offset = 0, length = -1): Promise<Buffer> {
    return Buffer.from((await this.#ask({ action: 'read', fd, offset, length })) as string, 'base64');
  }

  async close(fd: number): Promise<void> {
    await this.#ask({ action: 'close', fd });
  }

  async list(path: string): Promise<string[]> {
    return (await this.#ask({ action: 'list', path })) as string[];
  }

  /** Opens, reads whole, closes. */
  async file(path: string | { readonly latin1: string }): Promise<Buffer> {
    const fd = await this.open(path);
    try {
      return await this.read(fd);
    } finally {
      await this.close(fd);
    }
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #ask(request: object): Promise<unknown> {
    const id = this.#next++;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    this.#child.send({ id, ...request }, (error) => {
      if (error !== null) waiting.reject(error);
    });
    return await waiting.promise;
  }
}
