import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isDigest } from '#core/digest.ts';
import { isErrno } from '#core/errors.ts';
import { ObjectTable } from '#core/index/object-table.ts';
import type { Logger } from '#core/log.ts';
import type { NodePaths } from '../paths.ts';
import { ImageEntry } from './image-entry.ts';

interface Known {
  readonly entry: ImageEntry;
  /** Tells whether the file is still the one that was read. */
  readonly stamp: string;
}

/** The images of the node, read from `images/<image>/objects` when they are first asked for. */
export class ImageEntries {
  readonly #paths: NodePaths;
  readonly #log: Logger;
  readonly #byName = new Map<string, Known>();
  readonly #bySlot = new Map<number, ImageEntry>();

  constructor(paths: NodePaths, log: Logger) {
    this.#paths = paths;
    this.#log = log;
  }

  /** The image as it is now; undefined where there is none. */
  byName(name: string): ImageEntry | undefined {
    if (!isDigest(name)) return undefined;
    const file = join(this.#paths.images, name, 'objects');
    const facts = lstatSync(file, { throwIfNoEntry: false });
    const known = this.#byName.get(name);
    const stamp = facts === undefined ? '' : `${facts.ino} ${facts.mtimeMs} ${facts.size}`;
    if (known?.stamp === stamp) return known.entry;
    if (known !== undefined) this.#forget(name, known);
    if (facts === undefined) return undefined;
    let table: ObjectTable;
    try {
      table = ObjectTable.open(file);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
    const entry = new ImageEntry(name, table);
    this.#byName.set(name, { entry, stamp });
    this.#bySlot.set(table.slot, entry);
    entry
      .recall(join(this.#paths.private, name))
      .catch((err: unknown) => this.#log.warn({ err, image: name }, 'what was touched before is not counted'));
    return entry;
  }

  /** The image whose nodes have this slot; also one that only an earlier server process had read. */
  bySlot(slot: number): ImageEntry | undefined {
    const known = this.#bySlot.get(slot);
    if (known !== undefined) return known;
    for (const name of this.names()) {
      if (this.#byName.has(name)) continue;
      try {
        if (this.byName(name)?.table.slot === slot) break;
      } catch (err) {
        this.#log.error({ err, image: name }, 'object table not readable');
      }
    }
    return this.#bySlot.get(slot);
  }

  /** The images that are there, in order. */
  names(): string[] {
    return readdirSync(this.#paths.images)
      .filter((name) => isDigest(name) && this.#exists(name))
      .sort();
  }

  /** The images that were used since this process started; forgets those that are gone. */
  used(): ImageEntry[] {
    for (const [name, known] of [...this.#byName]) if (!this.#exists(name)) this.#forget(name, known);
    return [...this.#byName.values()].map(({ entry }) => entry);
  }

  #exists(name: string): boolean {
    return lstatSync(join(this.#paths.images, name, 'objects'), { throwIfNoEntry: false }) !== undefined;
  }

  #forget(name: string, { entry }: Known): void {
    this.#byName.delete(name);
    this.#bySlot.delete(entry.table.slot);
  }
}
