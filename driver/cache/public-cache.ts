import {
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryName } from '#core/atomic-file.ts';
import type { Digest } from '#core/digest.ts';
import { GearError, isErrno, orUndefined } from '#core/errors.ts';
import type { CacheItem, Shelf } from './evictor.ts';
import type { FlushMark } from './flush-mark.ts';
import type { CacheLayout } from './layout.ts';

interface SpareFile {
  readonly path: string;
  readonly fd: number;
}

/**
 * Verified objects, and the hard links that pin them for the images that touched them. Calls of the kernel are made at once, on this thread: for a
 * file of a few kilobytes they take a fraction of what handing them to another thread would.
 */
export class PublicCache implements Shelf {
  readonly #layout: CacheLayout;
  readonly #mark: FlushMark;
  #spare: SpareFile | undefined;

  constructor(layout: CacheLayout, mark: FlushMark) {
    this.#layout = layout;
    this.#mark = mark;
  }

  has(digest: Digest): boolean {
    return lstatSync(this.#layout.publicFile(digest), { throwIfNoEntry: false }) !== undefined;
  }

  /** Makes an empty file ready for the next object: worth doing while that is on its way, because making a file takes longer than filling it. */
  prepare(): void {
    if (this.#spare !== undefined) return;
    const path = `${this.#layout.partial}/${temporaryName()}`;
    this.#spare = { path, fd: openSync(path, 'wx', 0o444) };
  }

  /** Puts in an object whose bytes the caller has verified. Throws ENOSPC; then nothing is left behind. */
  add(digest: Digest, bytes: Buffer): void {
    this.prepare();
    const { path, fd } = this.#spare as SpareFile;
    this.#spare = undefined;
    this.#mark.note();
    try {
      try {
        for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
      } finally {
        closeSync(fd);
      }
      this.#publish(path, digest);
    } catch (error) {
      rmSync(path, { force: true });
      throw error;
    }
  }

  close(): void {
    if (this.#spare === undefined) return;
    closeSync(this.#spare.fd);
    rmSync(this.#spare.path, { force: true });
    this.#spare = undefined;
  }

  /** Moves a file in whose bytes the caller has verified and which nobody writes any more. It must lie on the same filesystem, with mode 0444. */
  adopt(digest: Digest, file: string): void {
    this.#mark.note();
    this.#publish(file, digest);
  }

  /** Pins an object for an image. False: it is not here. */
  pin(image: Digest, digest: Digest): boolean {
    const from = this.#layout.publicFile(digest);
    const to = this.#layout.privateFile(image, digest);
    if (!this.has(digest)) return this.isPinned(image, digest);
    try {
      linkSync(from, to);
      return true;
    } catch (error) {
      if (isErrno(error, 'EEXIST')) return true;
      if (!isErrno(error, 'ENOENT')) throw error;
    }
    this.#makePrivateFolder(image, digest.slice(0, 2));
    try {
      linkSync(from, to);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false;
      if (!isErrno(error, 'EEXIST')) throw error;
    }
    return true;
  }

  isPinned(image: Digest, digest: Digest): boolean {
    return lstatSync(this.#layout.privateFile(image, digest), { throwIfNoEntry: false }) !== undefined;
  }

  #makePrivateFolder(image: Digest, prefix: string): void {
    const folder = this.#layout.privateFolder(image);
    if (lstatSync(folder, { throwIfNoEntry: false }) === undefined) {
      // An image that is being removed must not get its folder back.
      if (lstatSync(join(this.#layout.paths.images, image), { throwIfNoEntry: false }) === undefined) {
        throw new GearError('not-found', `image ${image} is not on this node any more`);
      }
      mkdirSync(folder, { mode: 0o700, recursive: true });
    }
    mkdirSync(`${folder}/${prefix}`, { mode: 0o700, recursive: true });
  }

  async *items(): AsyncGenerator<CacheItem> {
    const folder = this.#layout.paths.public;
    for (const prefix of (await orUndefined(readdir(folder), 'ENOENT')) ?? []) {
      // Temporary folders of nobody, or files that do not belong here, are not ours to judge.
      const names = (await orUndefined(readdir(join(folder, prefix)), 'ENOENT', 'ENOTDIR')) ?? [];
      for (const name of names) {
        const item = this.#item(join(folder, prefix, name));
        if (item !== undefined) yield item;
      }
    }
  }

  #item(path: string): CacheItem | undefined {
    const facts = lstatSync(path, { throwIfNoEntry: false });
    if (facts?.isFile() !== true) return undefined;
    // A link that goes away changes ctime: an image that was just removed was in use until now.
    const usedAt = Math.max(facts.atimeMs, facts.mtimeMs, facts.ctimeMs);
    const item = { bytes: facts.size, usedAt };
    return facts.nlink > 1 ? item : { ...item, evict: () => this.#evict(path) };
  }

  #evict(path: string): boolean {
    if (lstatSync(path, { throwIfNoEntry: false })?.nlink !== 1) return false;
    unlinkSync(path);
    return true;
  }

  #publish(file: string, digest: Digest): void {
    const target = this.#layout.publicFile(digest);
    try {
      renameSync(file, target);
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
      mkdirSync(this.#layout.publicFolder(digest.slice(0, 2)), { mode: 0o700, recursive: true });
      renameSync(file, target);
    }
  }
}
