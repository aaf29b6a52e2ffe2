import { type Digest, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { WatchedTag } from '../catalog/watched-tags.ts';
import { parseConfig, startsWithGearLayer } from '../converter/image-config.ts';
import type { RegistryClient } from '../registry/client.ts';
import type { Target } from '../registry/client-auth.ts';
import { type ImageManifest, MEDIA, parseManifest } from '../registry/manifest.ts';
import { choosePlatform, hostPlatform } from '../registry/platform.ts';
import { parseReference } from '../registry/reference.ts';
import type { ImageRecord } from '../store/record.ts';

const MAX_CONFIG_BYTES = 16 * 1024 * 1024;

export interface ContentParts {
  readonly client: RegistryClient;
  /** The records that a manifest's digest means. */
  readonly findImages: (reference: string) => readonly { readonly record: ImageRecord }[];
}

/** Why what a tag names is left alone, if it is. What the store does not know is looked up in the registry: a manifest and a config, no layers. */
export async function whyLeftAlone(
  { client, findImages }: ContentParts,
  { source, digest }: WatchedTag,
  signal: AbortSignal,
): Promise<string | undefined> {
  const known = findImages(ociDigest(digest)).map(({ record }) => record);
  if (known.some(({ gearDigest }) => gearDigest === digest)) return 'a Gear image';
  if (known.some(({ sourceDigest }) => sourceDigest === digest)) return undefined;
  const reference = parseReference(source);
  if (reference.transport !== 'docker') return undefined;
  const { bytes } = await client.manifest(reference, ociDigest(digest), { signal });
  if (isArtifact(bytes)) return 'not an image';
  const manifest = await imageIn(client, reference, bytes, source, signal);
  return manifest !== undefined && (await isGearImage(client, reference, manifest, signal))
    ? 'a Gear image'
    : undefined;
}

/** Whether an image is a Gear image, or is built on one, by what its config says. */
export async function isGearImage(
  client: RegistryClient,
  target: Target,
  manifest: ImageManifest,
  signal: AbortSignal,
): Promise<boolean> {
  // No ordinary image has a config of this size.
  if (manifest.config.size > MAX_CONFIG_BYTES) return false;
  const bytes = await client.smallBlob(target, manifest.config.digest, MAX_CONFIG_BYTES, { signal });
  try {
    return startsWithGearLayer(parseConfig(bytes, manifest, target.repository));
  } catch (error) {
    // What is wrong with it the conversion says.
    if (error instanceof GearError) return false;
    throw error;
  }
}

/** Of a multi-arch list the image for this machine; undefined where there is none. */
async function imageIn(
  client: RegistryClient,
  target: Target,
  bytes: Buffer,
  name: string,
  signal: AbortSignal,
): Promise<ImageManifest | undefined> {
  const manifest = parseManifest(bytes, name);
  if (manifest.kind === 'image') return manifest;
  const chosen: Digest | undefined = choosePlatform(manifest.manifests, hostPlatform())?.digest;
  if (chosen === undefined) return undefined;
  const inner = parseManifest((await client.manifest(target, ociDigest(chosen), { signal })).bytes, name);
  return inner.kind === 'image' ? inner : undefined;
}

/** Whether a manifest says that it is something else than an image: a chart, a signature. */
function isArtifact(bytes: Buffer): boolean {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch {
    return false;
  }
  const { artifactType, config } = json as { artifactType?: unknown; config?: { mediaType?: unknown } };
  if (typeof artifactType === 'string') return true;
  const type = config?.mediaType;
  return typeof type === 'string' && type !== MEDIA.ociConfig && type !== MEDIA.dockerConfig;
}
