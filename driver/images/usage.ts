import { existsSync } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, isDigest } from '#core/digest.ts';
import { orUndefined } from '#core/errors.ts';
import { ObjectTable } from '#core/index/object-table.ts';
import { type Measure, measure } from '../kernel/measure.ts';
import type { NodePaths } from '../paths.ts';
import type { Image } from './image-store.ts';

/** Milliseconds: the kubelet asks for every image every few seconds. */
const FRESH = 10_000;
const BLOCK = 512;

/** Measures images: their folders, the objects that they have touched, and those of which only some chunks are here. */
export class ImageUsages {
  readonly #paths: NodePaths;
  readonly #known = new Map<Digest, { readonly at: number; readonly measured: Promise<Measure> }>();

  constructor(paths: NodePaths) {
    this.#paths = paths;
  }

  async get(image: Image): Promise<Measure> {
    const now = performance.now();
    for (const [id, { at }] of this.#known) if (now - at > FRESH) this.#known.delete(id);
    const { measured } = this.#known.getOrInsertComputed(image.id, () => ({ at: now, measured: this.#measure(image) }));
    return await measured;
  }

  async #measure({ id, folder }: Image): Promise<Measure> {
    const parts = [
      await measure(folder),
      await measure(join(this.#paths.private, id)),
      await this.#partial(join(folder, 'objects')),
    ];
    return {
      size: parts.reduce((sum, { size }) => sum + size, 0),
      inodes: parts.reduce((sum, { inodes }) => sum + inodes, 0),
    };
  }

  async #partial(tableFile: string): Promise<Measure> {
    let [size, inodes] = [0, 0];
    if (!existsSync(tableFile)) return { size, inodes };
    const table = ObjectTable.open(tableFile);
    const folder = join(this.#paths.root, 'partial');
    for (const name of (await orUndefined(readdir(folder), 'ENOENT')) ?? []) {
      const digest = name.slice(0, 64);
      if (!isDigest(digest) || table.find(digest) === undefined) continue;
      const stats = await orUndefined(lstat(join(folder, name)), 'ENOENT');
      if (stats === undefined) continue;
      size += stats.blocks * BLOCK;
      inodes++;
    }
    return { size, inodes };
  }
}
