import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { GearError, isErrno } from '#core/errors.ts';
import { type Descriptor, type ImageManifest, type ManifestList, parseManifest } from '../registry/manifest.ts';
import { choosePlatform, formatPlatform, hostPlatform, type Platform } from '../registry/platform.ts';
import { formatReference, type ImageReference, type OciReference } from '../registry/reference.ts';
import { inspectRaw, type SkopeoOptions } from '../registry/skopeo.ts';

/** One image, of one platform. */
export interface ResolvedImage {
  /** As it was asked for, in skopeo's words. */
  readonly name: string;
  /** Names exactly this image, where its place can name images by digest. */
  readonly reference: ImageReference;
  readonly manifest: ImageManifest;
  /** It was chosen from a multi-arch list, by its platform there. */
  readonly chosen: boolean;
}

/** Where an OCI layout keeps a blob (OCI image layout specification). */
export function layoutBlob(reference: OciReference, digest: Digest): string {
  return join(reference.path, 'blobs', 'sha256', digest);
}

function choose(list: ManifestList, wanted: Platform, name: string): Descriptor {
  const chosen = choosePlatform(list.manifests, wanted);
  if (chosen !== undefined) return chosen;
  // Attestations and the like have the platform unknown/unknown.
  const offered = list.manifests.flatMap(({ platform }) =>
    platform === undefined || platform.os === 'unknown' ? [] : [formatPlatform(platform)],
  );
  const there =
    offered.length === 0 ? 'it names no platform at all' : `there is ${[...new Set(offered)].sort().join(', ')}`;
  throw new GearError('not-found', `${name}: no image for ${formatPlatform(wanted)}; ${there}`);
}

async function readChosen(
  reference: ImageReference,
  entry: Descriptor,
  name: string,
  options: SkopeoOptions,
): Promise<Buffer> {
  if (reference.transport === 'docker') return await inspectRaw({ ...reference, digest: entry.digest }, options);
  if (reference.transport === 'oci') {
    try {
      return await readFile(layoutBlob(reference, entry.digest));
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
      throw new GearError('corrupt', `${name}: the layout does not have the manifest ${ociDigest(entry.digest)}`, {
        cause: error,
      });
    }
  }
  throw new GearError('unsupported', `${name}: a multi-arch list is not expected here`);
}

/**
 * Asks what `reference` names, and of a multi-arch list takes the image for `platform` (this machine's own by default). Transfers no layer. Throws
 * not-found, naming what platforms there are, where the list has none that fits.
 */
export async function resolveImage(
  reference: ImageReference,
  platform: Platform | undefined,
  options: SkopeoOptions,
): Promise<ResolvedImage> {
  const name = formatReference(reference);
  const manifest = parseManifest(await inspectRaw(reference, options), name);
  const pin = (digest: Digest) => (reference.transport === 'docker' ? { ...reference, digest } : reference);
  if (manifest.kind === 'image') return { name, reference: pin(manifest.digest), manifest, chosen: false };
  const entry = choose(manifest, platform ?? hostPlatform(), name);
  const bytes = await readChosen(reference, entry, name, options);
  if (digestOf(bytes) !== entry.digest) {
    throw new GearError(
      'corrupt',
      `${name}: the manifest ${ociDigest(entry.digest)} of the list has the digest ${ociDigest(digestOf(bytes))}`,
    );
  }
  const chosen = parseManifest(bytes, name);
  if (chosen.kind === 'list') throw new GearError('unsupported', `${name}: a list within a list is not supported`);
  return { name, reference: pin(chosen.digest), manifest: chosen, chosen: true };
}
