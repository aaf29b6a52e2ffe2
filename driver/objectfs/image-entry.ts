import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, isDigest } from '#core/digest.ts';
import { orUndefined } from '#core/errors.ts';
import type { ObjectTable } from '#core/index/object-table.ts';
import type { WantedObject } from '../cache/object.ts';
import type { ImageStats } from './interface.ts';

/** One image: its objects, and what was touched of them. */
export class ImageEntry {
  readonly image: Digest;
  readonly table: ObjectTable;
  readonly #touched: Uint8Array;
  #touchedObjects = 0;
  #touchedBytes = 0;
  fromPublic = 0;
  fromRemote = 0;
  fetchedBytes = 0;
  errors = 0;

  constructor(image: Digest, table: ObjectTable) {
    this.image = image;
    this.table = table;
    this.#touched = new Uint8Array(Math.ceil(table.count / 8));
  }

  object(row: number): WantedObject {
    const { table } = this;
    return {
      digest: table.digest(row),
      size: table.size(row),
      chunkSize: table.chunkSize,
      chunkDigests: table.chunkDigests(row),
    };
  }

  /** Gives whether this is the object's first touch. */
  touch(row: number): boolean {
    const bit = 1 << (row & 7);
    const byte = this.#touched[row >>> 3] as number;
    if ((byte & bit) !== 0) return false;
    this.#touched[row >>> 3] = byte | bit;
    this.#touchedObjects++;
    this.#touchedBytes += this.table.size(row);
    return true;
  }

  /** Learns from the image's private cache what was touched before this process started. */
  async recall(privateFolder: string): Promise<void> {
    for (const prefix of (await orUndefined(readdir(privateFolder), 'ENOENT')) ?? []) {
      for (const rest of (await orUndefined(readdir(join(privateFolder, prefix)), 'ENOENT', 'ENOTDIR')) ?? []) {
        const digest = prefix + rest;
        const row = isDigest(digest) ? this.table.find(digest) : undefined;
        if (row !== undefined) this.touch(row);
      }
    }
  }

  stats(): Omit<ImageStats, 'startUp'> {
    return {
      image: this.image,
      objects: this.table.count,
      bytes: this.table.totalBytes,
      touchedObjects: this.#touchedObjects,
      touchedBytes: this.#touchedBytes,
      fromPublic: this.fromPublic,
      fromRemote: this.fromRemote,
      fetchedBytes: this.fetchedBytes,
      errors: this.errors,
    };
  }
}
