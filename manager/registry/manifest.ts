import { type Digest, digestOf, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Platform } from './platform.ts';

/** Media types, from the OCI image specification and Docker's "image manifest version 2, schema 2". */
export const MEDIA = {
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
} as const;

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

export interface ImageManifest {
  readonly kind: 'image';
  /** Of the manifest's own bytes. */
  readonly digest: Digest;
  readonly config: Descriptor;
  /** From the lowest up. */
  readonly layers: readonly Descriptor[];
}

/** A multi-arch list (OCI's image index or Docker's manifest list). */
export interface ManifestList {
  readonly kind: 'list';
  readonly digest: Digest;
  readonly manifests: readonly (Descriptor & { readonly platform: Platform | undefined })[];
}

type Json = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function descriptor(value: unknown, what: string): Descriptor {
  if (!isObject(value)) throw new GearError('corrupt', `${what} is not a descriptor`);
  const { mediaType, digest, size } = value;
  if (typeof digest !== 'string') throw new GearError('corrupt', `${what} has no digest`);
  if (!digest.startsWith('sha256:')) {
    throw new GearError(
      'unsupported',
      `${what} is named by ${JSON.stringify(digest.slice(0, 100))}: only sha256 digests are supported`,
    );
  }
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw new GearError('corrupt', `${what} has no valid size`);
  return { mediaType: typeof mediaType === 'string' ? mediaType : '', digest: parseDigest(digest), size };
}

function platformOf(value: unknown): Platform | undefined {
  if (!isObject(value)) return undefined;
  const text = (key: string) => (typeof value[key] === 'string' ? value[key] : '');
  return { os: text('os'), architecture: text('architecture'), variant: text('variant') };
}

/** Refuses what is no layer of an ordinary Linux image, by name. */
function checkLayer(layer: Descriptor, what: string): Descriptor {
  const type = layer.mediaType;
  if (/nondistributable|\.foreign\./.test(type)) {
    throw new GearError(
      'unsupported',
      `${what} (${type}) is a foreign layer: its content is not in the registry, so it cannot be converted`,
    );
  }
  if (type.includes('encrypted')) {
    throw new GearError(
      'unsupported',
      `${what} (${type}) is encrypted: decrypt the image first (skopeo copy --decryption-key)`,
    );
  }
  if (type !== '' && !type.startsWith(MEDIA.ociLayer) && !type.startsWith(MEDIA.dockerLayer)) {
    throw new GearError(
      'unsupported',
      `${what} has the media type ${JSON.stringify(type)}: that is not a layer of an image`,
    );
  }
  return layer;
}

/**
 * Reads a manifest or a multi-arch list, as its registry has it; `name` is the image's, for errors. Throws corrupt for bytes that are none, and unsupported, by
 * name, for what cannot be an ordinary image: schema 1, artifacts, foreign and encrypted layers.
 */
export function parseManifest(bytes: Uint8Array, name: string): ImageManifest | ManifestList {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    throw new GearError('corrupt', `${name}: its manifest is not JSON`, { cause: error });
  }
  if (!isObject(json)) throw new GearError('corrupt', `${name}: its manifest is not a JSON object`);
  const digest = digestOf(bytes);
  if (json['schemaVersion'] === 1) {
    throw new GearError(
      'unsupported',
      `${name}: a manifest of schema 1 is not supported; push the image again with a current client`,
    );
  }
  if (json['schemaVersion'] !== 2)
    throw new GearError('corrupt', `${name}: not an image manifest (schemaVersion is missing)`);
  if (Array.isArray(json['manifests'])) {
    const manifests = json['manifests'].map((value: unknown, i) => ({
      ...descriptor(value, `${name}: entry ${i + 1} of the list`),
      platform: isObject(value) ? platformOf(value['platform']) : undefined,
    }));
    return { kind: 'list', digest, manifests };
  }
  if (!Array.isArray(json['layers']) || !isObject(json['config'])) {
    throw new GearError('unsupported', `${name}: not an image (its manifest has no config and layers)`);
  }
  const config = descriptor(json['config'], `${name}: the config`);
  const artifact = json['artifactType'];
  if (
    (config.mediaType !== MEDIA.ociConfig && config.mediaType !== MEDIA.dockerConfig) ||
    typeof artifact === 'string'
  ) {
    const type = typeof artifact === 'string' ? artifact : config.mediaType;
    throw new GearError('unsupported', `${name}: an artifact of type ${JSON.stringify(type)}, not an image`);
  }
  const layers = json['layers'].map((value: unknown, i) => {
    const what = `${name}: layer ${i + 1} of ${(json['layers'] as unknown[]).length}`;
    return checkLayer(descriptor(value, what), what);
  });
  return { kind: 'image', digest, config, layers };
}

/** The bytes of an OCI image manifest. Always the same for the same input. */
export function encodeManifest({ config, layers }: { config: Descriptor; layers: readonly Descriptor[] }): Buffer {
  const plain = ({ mediaType, digest, size }: Descriptor) => ({ mediaType, digest: ociDigest(digest), size });
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.ociManifest,
      config: plain(config),
      layers: layers.map(plain),
    }),
  );
}
