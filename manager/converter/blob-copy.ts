import { mkdir, readdir, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Digest, ociDigest } from '#core/digest.ts';
import { GearError, orUndefined } from '#core/errors.ts';
import type { Descriptor } from '../registry/manifest.ts';
import { formatReference, type ImageReference } from '../registry/reference.ts';
import { copyToFolder, copyToLayout, type SkopeoOptions } from '../registry/skopeo.ts';

/** A transfer that brings nothing for so long is given up. Milliseconds. */
const STALL_TIMEOUT = 300_000;
const POLL_INTERVAL = 50;

export interface FetchOptions extends SkopeoOptions {
  /** An empty folder for the blobs. */
  readonly folder: string;
  /** Called now and then with the bytes that are here so far. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const name of (await orUndefined(readdir(folder), 'ENOENT')) ?? []) {
    const stats = await orUndefined(stat(join(folder, name)), 'ENOENT');
    if (stats?.isFile() === true) bytes += stats.size;
  }
  return bytes;
}

async function copyBlobs(
  reference: ImageReference,
  blobs: string,
  skipped: readonly Descriptor[],
  options: FetchOptions,
): Promise<void> {
  if (skipped.length === 0) return await copyToFolder(reference, options.folder, options);
  // For what lies in a layout already skopeo does not ask the registry; so empty files of the right size stand in.
  await mkdir(blobs, { recursive: true });
  for (const { digest, size } of skipped) {
    await writeFile(join(blobs, digest), '');
    await truncate(join(blobs, digest), size);
  }
  await copyToLayout(reference, options.folder, options);
}

/** An image's blobs as skopeo copies them, file by file; a file has its final name once it is whole. */
export class BlobCopy implements AsyncDisposable {
  readonly #folder: string;
  readonly #name: string;
  readonly #stop = new AbortController();
  readonly #copied: Promise<void>;
  readonly #watched: Promise<void>;
  #done = false;

  /** Starts copying everything but the blobs in `skipped`. */
  constructor(reference: ImageReference, skipped: readonly Descriptor[], options: FetchOptions) {
    this.#folder = skipped.length === 0 ? options.folder : join(options.folder, 'blobs', 'sha256');
    this.#name = formatReference(reference);
    const signal = AbortSignal.any([options.signal, this.#stop.signal]);
    this.#copied = copyBlobs(reference, this.#folder, skipped, { ...options, signal }).finally(() => {
      this.#done = true;
    });
    this.#copied.catch(() => {});
    this.#watched = this.#watch(options);
  }

  /** Waits for the whole image. */
  async finished(): Promise<void> {
    await this.#copied;
  }

  async file(digest: Digest): Promise<string> {
    const path = join(this.#folder, digest);
    for (;;) {
      const done = this.#done;
      if ((await orUndefined(stat(path), 'ENOENT')) !== undefined) return path;
      if (done) {
        await this.#copied;
        throw new GearError('corrupt', `${this.#name}: the blob ${ociDigest(digest)} did not come with the image`);
      }
      await Promise.race([this.#copied, delay(POLL_INTERVAL)]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#done) this.#stop.abort(new GearError('cancelled', `${this.#name}: no longer wanted`));
    await Promise.allSettled([this.#copied, this.#watched]);
  }

  async #watch({ folder, tmpdir, onBytes }: FetchOptions): Promise<void> {
    let last = -1;
    let since = performance.now();
    while (!this.#done) {
      const bytes = (await bytesIn(folder)) + (this.#folder === folder ? 0 : await bytesIn(this.#folder));
      const moved = bytes + (await bytesIn(tmpdir));
      if (moved !== last) [last, since] = [moved, performance.now()];
      else if (performance.now() - since > STALL_TIMEOUT) {
        this.#stop.abort(
          new GearError('deadline-exceeded', `${this.#name}: nothing came for ${STALL_TIMEOUT / 1000} s`),
        );
        return;
      }
      onBytes?.(bytes);
      await Promise.race([this.#copied.catch(() => {}), delay(250)]);
    }
  }
}
