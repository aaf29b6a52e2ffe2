import { type Abortable, sleep } from '#core/abort.ts';
import type { Logger } from '#core/log.ts';
import { applyLayer } from '../archive/apply.ts';
import { changes } from '../archive/changes.ts';
import { diffSize, tarOfChanges, tarOfTree } from '../archive/diff-tar.ts';
import type { Capabilities, Change, CreateOptions, Driver, ProtoDriver, StatusLine } from './driver.ts';

export interface NaiveDiffOptions {
  readonly log?: Logger | undefined;
  /**
   * Whether the stream of `diff` ends in a later second than it began (as Docker's does; default yes). A layer's tar has whole seconds, so a
   * file of the same size that is written again in the second in which it was put into a layer would look unchanged.
   */
  readonly untilNextSecond?: boolean | undefined;
}

/** Waits until the second is over that `since` (ms since 1970) lies in. */
export async function untilNextSecond(since: number, options: Abortable = {}): Promise<void> {
  const left = (Math.floor(since / 1000) + 1) * 1000 - Date.now();
  if (left > 0) await sleep(left, options);
}

/**
 * Completes a driver that only has the protocol's half: shows both layers and compares them name by name, for drivers that have no better
 * way (Docker's NewNaiveDiffDriver).
 */
export class NaiveDiffDriver implements Driver {
  readonly #driver: ProtoDriver;
  readonly #options: NaiveDiffOptions;
  readonly name: string;
  readonly capabilities: Capabilities = { reproducesExactDiffs: false };

  constructor(driver: ProtoDriver, options: NaiveDiffOptions = {}) {
    this.#driver = driver;
    this.#options = options;
    this.name = driver.name;
  }

  async create(id: string, parent: string, options: CreateOptions): Promise<void> {
    await this.#driver.create(id, parent, options);
  }

  async createReadWrite(id: string, parent: string, options: CreateOptions): Promise<void> {
    await this.#driver.createReadWrite(id, parent, options);
  }

  async remove(id: string, options: Abortable = {}): Promise<void> {
    await this.#driver.remove(id, options);
  }

  async get(id: string, mountLabel: string, options: Abortable = {}): Promise<string> {
    return await this.#driver.get(id, mountLabel, options);
  }

  async put(id: string, options: Abortable = {}): Promise<void> {
    await this.#driver.put(id, options);
  }

  async exists(id: string): Promise<boolean> {
    return await this.#driver.exists(id);
  }

  async status(): Promise<StatusLine[]> {
    return await this.#driver.status();
  }

  async getMetadata(id: string): Promise<Record<string, string>> {
    return await this.#driver.getMetadata(id);
  }

  async cleanup(): Promise<void> {
    await this.#driver.cleanup();
  }

  async diff(id: string, parent: string, options: Abortable = {}): Promise<AsyncIterable<Buffer>> {
    return this.#diff(id, parent, options);
  }

  // Mounts only when it is read: a stream that nobody reads must hold nothing.
  async *#diff(id: string, parent: string, options: Abortable): AsyncGenerator<Buffer> {
    const began = Date.now();
    {
      await using stack = new AsyncDisposableStack();
      const newRoot = await this.#mount(stack, id, options);
      const oldRoot = parent === '' ? undefined : await this.#mount(stack, parent, options);
      const tar = { ...options, log: this.#options.log };
      if (oldRoot === undefined) yield* tarOfTree(newRoot, tar);
      else yield* tarOfChanges(newRoot, await changes(newRoot, oldRoot, options), tar);
    }
    if (this.#options.untilNextSecond !== false) await untilNextSecond(began, options);
  }

  async changes(id: string, parent: string, options: Abortable = {}): Promise<Change[]> {
    await using stack = new AsyncDisposableStack();
    const newRoot = await this.#mount(stack, id, options);
    const oldRoot = parent === '' ? undefined : await this.#mount(stack, parent, options);
    return await changes(newRoot, oldRoot, options);
  }

  async applyDiff(
    id: string,
    _parent: string,
    diff: AsyncIterable<Uint8Array>,
    options: Abortable = {},
  ): Promise<number> {
    await using stack = new AsyncDisposableStack();
    const root = await this.#mount(stack, id, options);
    return (await applyLayer(diff, root, { format: 'plain', ...options, log: this.#options.log })).size;
  }

  async diffSize(id: string, parent: string, options: Abortable = {}): Promise<number> {
    await using stack = new AsyncDisposableStack();
    const newRoot = await this.#mount(stack, id, options);
    const oldRoot = parent === '' ? undefined : await this.#mount(stack, parent, options);
    return await diffSize(newRoot, await changes(newRoot, oldRoot, options), options);
  }

  async #mount(stack: AsyncDisposableStack, id: string, options: Abortable): Promise<string> {
    const root = await this.#driver.get(id, '', options);
    // Taken back also when the call was aborted.
    stack.defer(() => this.#driver.put(id));
    return root;
  }
}
