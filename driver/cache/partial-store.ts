import { lstatSync, rmSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { orUndefined } from '#core/errors.ts';
import type { CacheItem, Shelf } from './evictor.ts';
import type { CacheLayout } from './layout.ts';
import type { WantedObject } from './object.ts';
import { type PartialHost, PartialObject } from './partial-object.ts';

/** Idle partial objects beyond this number are closed; each has two descriptors open. */
const MAX_OPEN = 256;

/** The partial objects of the node. */
export class PartialStore implements Shelf {
  readonly #layout: CacheLayout;
  readonly #host: PartialHost;
  /** The one used last comes last. */
  readonly #open = new Map<string, PartialObject>();

  constructor(layout: CacheLayout, host: PartialHost) {
    this.#layout = layout;
    this.#host = host;
  }

  /** The partial object, made where it is not there yet. Throws ENOSPC. */
  get(object: WantedObject): PartialObject {
    const file = this.#layout.partialFile(object);
    const known = this.#open.get(file);
    if (known !== undefined) {
      this.#open.delete(file);
      this.#open.set(file, known);
      return known;
    }
    const partial = new PartialObject(object, file, this.#host);
    this.#open.set(file, partial);
    this.#closeIdle();
    return partial;
  }

  /** The partial object where there already is one. */
  find(object: WantedObject): PartialObject | undefined {
    const file = this.#layout.partialFile(object);
    if (this.#open.has(file) || lstatSync(`${file}.map`, { throwIfNoEntry: false }) !== undefined)
      return this.get(object);
    return undefined;
  }

  /** Takes it away; whoever reads from it goes on reading. */
  remove(partial: PartialObject): void {
    if (this.#open.get(partial.file) === partial) this.#open.delete(partial.file);
    partial.retire('remove');
  }

  close(): void {
    for (const partial of this.#open.values()) partial.retire('close');
    this.#open.clear();
  }

  async *items(): AsyncGenerator<CacheItem> {
    for (const name of (await orUndefined(readdir(this.#layout.partial), 'ENOENT')) ?? []) {
      if (!name.endsWith('.data')) continue;
      const file = `${this.#layout.partial}/${name.slice(0, -'.data'.length)}`;
      const facts = lstatSync(`${file}.data`, { throwIfNoEntry: false });
      if (facts === undefined) continue;
      const usedAt = Math.max(facts.mtimeMs, this.#open.get(file)?.usedAt ?? 0);
      yield { bytes: facts.blocks * 512, usedAt, evict: () => this.#evict(file) };
    }
  }

  // Taking an idle one away costs a fetch and nothing else, also where a container has it open.
  #evict(file: string): boolean {
    const partial = this.#open.get(file);
    if (partial?.busy === true) return false;
    if (partial !== undefined) {
      this.remove(partial);
    } else {
      rmSync(`${file}.map`, { force: true });
      rmSync(`${file}.data`, { force: true });
    }
    return true;
  }

  #closeIdle(): void {
    for (const [file, partial] of this.#open) {
      if (this.#open.size <= MAX_OPEN) return;
      // Images that wait for it to become whole are only remembered here.
      if (partial.busy || partial.full) continue;
      this.#open.delete(file);
      partial.retire('close');
    }
  }
}
