import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Digest, ociDigest } from '#core/digest.ts';
import { GearError, isErrno, orUndefined } from '#core/errors.ts';
import { parseManifest } from '../registry/manifest.ts';
import { formatReference, type ImageReference } from '../registry/reference.ts';
import { copyToFolder, inspectConfig, type SkopeoOptions } from '../registry/skopeo.ts';
import { layoutBlob, type ResolvedImage } from './resolve.ts';

/** A transfer that brings nothing for so long is given up. Milliseconds. */
const STALL_TIMEOUT = 300_000;
const POLL_INTERVAL = 50;

/** An image whose blobs can be had as files. Disposing it ends what is still being transferred. */
export interface FetchedImage extends AsyncDisposable {
  readonly image: ResolvedImage;
  /** The config, verbatim; not verified. */
  config(): Promise<Buffer>;
  /** Waits for a blob; gives the path of the file that holds it, compressed or not as it is there; not verified. */
  blob(digest: Digest): Promise<string>;
}

export interface FetchOptions extends SkopeoOptions {
  /** An empty folder for the blobs. */
  readonly folder: string;
  /** Called now and then with the bytes that are here so far. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(folder)) {
    bytes += (await orUndefined(stat(join(folder, name)), 'ENOENT'))?.size ?? 0;
  }
  return bytes;
}

/** A copy that skopeo makes into a folder, file by file; a file has its final name once it is whole. */
class FolderCopy implements AsyncDisposable {
  readonly #folder: string;
  readonly #name: string;
  readonly #stop = new AbortController();
  readonly #copied: Promise<void>;
  readonly #watched: Promise<void>;
  #done = false;

  constructor(reference: ImageReference, options: FetchOptions) {
    this.#folder = options.folder;
    this.#name = formatReference(reference);
    const signal = AbortSignal.any([options.signal, this.#stop.signal]);
    this.#copied = copyToFolder(reference, options.folder, { ...options, signal }).finally(() => {
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
      const bytes = await bytesIn(folder);
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

/** An OCI layout is read in place. */
function fromLayout(image: ResolvedImage): FetchedImage {
  const { name, reference, manifest } = image;
  if (reference.transport !== 'oci') throw new GearError('internal', `${name}: not a layout`);
  return {
    image,
    config: async () => {
      try {
        return await readFile(layoutBlob(reference, manifest.config.digest));
      } catch (error) {
        if (!isErrno(error, 'ENOENT')) throw error;
        throw new GearError(
          'corrupt',
          `${name}: the layout does not have the config ${ociDigest(manifest.config.digest)}`,
          { cause: error },
        );
      }
    },
    blob: async (digest) => layoutBlob(reference, digest),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** A registry is asked for the config first, and for the layers once one is wanted. */
function fromRegistry(image: ResolvedImage, options: FetchOptions): FetchedImage {
  let copy: FolderCopy | undefined;
  return {
    image,
    config: async () => await inspectConfig(image.reference, options),
    blob: async (digest) => {
      copy ??= new FolderCopy(image.reference, options);
      return await copy.file(digest);
    },
    [Symbol.asyncDispose]: async () => await copy?.[Symbol.asyncDispose](),
  };
}

/**
 * Copies all of an image that a daemon or an archive holds; each look at such a one costs as much as copying it. Its manifest is one that
 * skopeo makes up, always the same for the same image.
 */
export async function fetchWhole(reference: ImageReference, options: FetchOptions): Promise<FetchedImage> {
  await using copy = new FolderCopy(reference, options);
  await copy.finished();
  const name = formatReference(reference);
  const manifest = parseManifest(await readFile(join(options.folder, 'manifest.json')), name);
  if (manifest.kind === 'list') throw new GearError('unsupported', `${name}: a multi-arch list is not expected here`);
  return {
    image: { name, reference, manifest, chosen: false },
    config: async () => await readFile(await copy.file(manifest.config.digest)),
    blob: async (digest) => await copy.file(digest),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** Makes the blobs of `image` available, fetching no more than is asked for where its place allows that. */
export async function fetchImage(image: ResolvedImage, options: FetchOptions): Promise<FetchedImage> {
  switch (image.reference.transport) {
    case 'oci':
      return fromLayout(image);
    case 'docker':
      return fromRegistry(image, options);
    case 'docker-daemon':
    case 'docker-archive': {
      const fetched = await fetchWhole(image.reference, options);
      if (fetched.image.manifest.digest !== image.manifest.digest) {
        throw new GearError('aborted', `${image.name}: the image changed while it was being read; try again`);
      }
      return fetched;
    }
  }
}
