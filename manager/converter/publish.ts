import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestOf, parseDigest } from '#core/digest.ts';
import { GearError, isGearError, orUndefined } from '#core/errors.ts';
import { daemonImageId } from '../registry/daemon-image.ts';
import { type BlobContent, writeLayout } from '../registry/oci-layout.ts';
import {
  formatReference,
  gearDestination,
  type ImageReference,
  parseReference,
  type Transport,
} from '../registry/reference.ts';
import { copyImage, inspectRaw, type SkopeoOptions } from '../registry/skopeo.ts';

/** An image that is ready to go somewhere. */
export interface BuiltImage {
  readonly manifest: Buffer;
  readonly manifestDigest: Digest;
  readonly configDigest: Digest;
  readonly blobs: ReadonlyMap<Digest, BlobContent>;
}

/** Where a Gear image may go. An archive holds one image, made once: nothing could be kept up to date in it. */
const GEAR_DESTINATIONS: readonly Transport[] = ['docker', 'docker-daemon', 'oci'];

/** Throws invalid-argument for a place that names an image by what it is, not by a name. */
export function checkDestination(reference: ImageReference): ImageReference {
  const byDigest =
    (reference.transport === 'docker' && reference.digest !== undefined) ||
    (reference.transport === 'docker-daemon' && reference.id !== undefined);
  if (byDigest)
    throw new GearError(
      'invalid-argument',
      `${formatReference(reference)}: a destination needs a name and a tag, not a digest`,
    );
  return reference;
}

/** The destination of a Gear image: `given`, or else the source's name with "-gear" added. Throws invalid-argument. */
export function destinationFor(source: ImageReference, given: string | undefined): ImageReference {
  const destination =
    given === undefined || given === '' ? gearDestination(source) : checkDestination(parseReference(given));
  const name = formatReference(destination);
  if (!GEAR_DESTINATIONS.includes(destination.transport)) {
    throw new GearError('invalid-argument', `${name}: a Gear image goes to docker://, docker-daemon: or oci:`);
  }
  if (name === formatReference(source))
    throw new GearError('invalid-argument', `${name}: the Gear image would replace its source`);
  return destination;
}

/**
 * Whether `destination` already has this image. A daemon keeps no manifests, there the config's digest counts (`configDigest` is asked for only then).
 */
export async function isPublished(
  destination: ImageReference,
  manifestDigest: Digest,
  configDigest: () => Promise<Digest>,
  options: SkopeoOptions,
): Promise<boolean> {
  if (destination.transport === 'docker-daemon')
    return (await daemonImageId(destination, options)) === (await configDigest());
  try {
    return digestOf(await inspectRaw(destination, options)) === manifestDigest;
  } catch (error) {
    // Some registries answer "denied" or "unauthorized" for a repository that does not exist; pushing will tell.
    if (isGearError(error, 'not-found', 'permission-denied', 'unauthenticated')) return false;
    throw error;
  }
}

/**
 * Brings the image to `destination` by way of a layout in the new folder `layout`. Gives the digest of the manifest as it is there: a registry may have
 * insisted on another type of manifest. A failure leaves no new file at the destination.
 */
export async function publish(
  image: BuiltImage,
  destination: ImageReference,
  { layout, ...options }: SkopeoOptions & { readonly layout: string },
): Promise<Digest> {
  const source = await writeLayout(layout, image.manifest, image.blobs);
  const digestFile = join(layout, 'digest');
  const path = 'path' in destination ? destination.path : undefined;
  const isNew = path !== undefined && (await orUndefined(stat(path), 'ENOENT')) === undefined;
  try {
    await copyImage(source, destination, { ...options, digestFile });
  } catch (error) {
    if (isNew) await rm(path, { recursive: true, force: true });
    throw error;
  }
  return destination.transport === 'docker'
    ? parseDigest((await readFile(digestFile, 'utf8')).trim())
    : image.manifestDigest;
}
