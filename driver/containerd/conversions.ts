import { messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { ManagerImages } from '../remote/manager-images.ts';

/** A conversion that failed is asked for again after this many milliseconds, when the image is pulled again. */
const ASK_AGAIN = 10 * 60_000;
const MAX_REMEMBERED = 1000;

export interface ConversionState {
  /** As the client named it. */
  readonly image: string;
  readonly state: 'waiting' | 'running' | 'done' | 'failed';
  /** Why it failed; otherwise ''. */
  readonly reason: string;
}

interface Entry extends ConversionState {
  readonly endedAt: number;
}

/**
 * Asks the manager to convert images that it did not know, each once and one after the other, so that they are lazy the next time. Nobody
 * waits for it.
 */
export class Conversions implements AsyncDisposable {
  readonly #manager: Pick<ManagerImages, 'convert' | 'address'>;
  readonly #log: Logger;
  readonly #entries = new Map<string, Entry>();
  readonly #stop = new AbortController();
  #last: Promise<void> = Promise.resolve();

  constructor(manager: Pick<ManagerImages, 'convert' | 'address'>, log: Logger) {
    this.#manager = manager;
    this.#log = log;
  }

  list(): ConversionState[] {
    return [...this.#entries.values()].map(({ image, state, reason }) => ({ image, state, reason }));
  }

  find(image: string): ConversionState | undefined {
    return this.#entries.get(image);
  }

  /** Takes the name of an image as containerd has it: "registry/name:tag". Returns at once. */
  ask(image: string): void {
    const known = this.#entries.get(image);
    if (known !== undefined && !(known.state === 'failed' && performance.now() - known.endedAt > ASK_AGAIN)) return;
    this.#set(image, 'waiting');
    this.#last = this.#last.then(() => this.#run(image, this.#stop.signal));
  }

  /** Waits for what has been asked for so far. */
  async settled(): Promise<void> {
    await this.#last;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#last;
  }

  async #run(image: string, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    this.#set(image, 'running');
    const began = performance.now();
    try {
      const { indexDigest } = await this.#manager.convert(sourceOf(image), { signal });
      this.#set(image, 'done');
      this.#log.info({ image, index: indexDigest, ms: Math.round(performance.now() - began) }, 'image converted');
    } catch (err) {
      if (this.#stop.signal.aborted) return;
      this.#set(image, 'failed', messageOf(err));
      this.#log.warn({ err, image, manager: this.#manager.address }, 'the manager did not convert an image');
    }
  }

  #set(image: string, state: ConversionState['state'], reason = ''): void {
    this.#entries.delete(image);
    this.#entries.set(image, { image, state, reason, endedAt: performance.now() });
    for (const [name, { state: old }] of this.#entries) {
      if (this.#entries.size <= MAX_REMEMBERED) break;
      if (old === 'done' || old === 'failed') this.#entries.delete(name);
    }
  }
}

/** The image in skopeo's words, which know no tag beside a digest. */
export function sourceOf(image: string): string {
  const [name = '', digest] = image.split('@');
  return `docker://${digest === undefined ? name : `${name.replace(/:[^:/]*$/, '')}@${digest}`}`;
}
