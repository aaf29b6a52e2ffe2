import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, ociDigest } from '#core/digest.ts';
import { GearError, isErrno } from '#core/errors.ts';
import { type Descriptor, parseManifest } from '../registry/manifest.ts';
import { formatReference, type ImageReference } from '../registry/reference.ts';
import { inspectConfig } from '../registry/skopeo.ts';
import { BlobCopy, type FetchOptions } from './blob-copy.ts';
import { layoutBlob, type ResolvedImage } from './resolve.ts';

/** An image whose blobs can be had as files. Disposing it ends what is still being transferred. */
export interface FetchedImage extends AsyncDisposable {
  readonly image: ResolvedImage;
  /** The config, verbatim; not verified. */
  config(): Promise<Buffer>;
  /** Says, before any blob is asked for, which ones will not be: they need not be fetched. */
  skip(blobs: readonly Descriptor[]): void;
  /** Waits for a blob; gives the path of the file that holds it, compressed or not as it is there; not verified. */
  blob(digest: Digest): Promise<string>;
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
    skip: () => {},
    blob: async (digest) => layoutBlob(reference, digest),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** A registry is asked for the config first, and for the layers once one is wanted. */
function fromRegistry(image: ResolvedImage, options: FetchOptions): FetchedImage {
  let copy: BlobCopy | undefined;
  let skipped: readonly Descriptor[] = [];
  return {
    image,
    config: async () => await inspectConfig(image.reference, options),
    skip: (blobs) => {
      skipped = blobs;
    },
    blob: async (digest) => {
      copy ??= new BlobCopy(image.reference, skipped, options);
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
  await using copy = new BlobCopy(reference, [], options);
  await copy.finished();
  const name = formatReference(reference);
  const manifest = parseManifest(await readFile(join(options.folder, 'manifest.json')), name);
  if (manifest.kind === 'list') throw new GearError('unsupported', `${name}: a multi-arch list is not expected here`);
  return {
    image: { name, reference, manifest, chosen: false },
    config: async () => await readFile(await copy.file(manifest.config.digest)),
    skip: () => {},
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
