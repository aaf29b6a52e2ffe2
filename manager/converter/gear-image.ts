import { promisify } from 'node:util';
import { constants, gzip } from 'node:zlib';
import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { DESCRIPTOR_PATH, type Descriptor, encodeDescriptor, GEAR_FOLDER, INDEX_PATH } from '#core/index/descriptor.ts';
import type { TarHeader } from '#core/tar/entry.ts';
import { writeTar } from '#core/tar/writer.ts';
import { encodeManifest, MEDIA } from '../registry/manifest.ts';
import type { BlobContent } from '../registry/oci-layout.ts';
import { GEAR_COMMENT, withLayers } from './image-config.ts';

/** A Gear image: an ordinary OCI image of one layer that holds only `.gear/`. */
export interface GearImage {
  readonly manifest: Buffer;
  readonly manifestDigest: Digest;
  /** Of the config: what Docker calls the image's id. */
  readonly configDigest: Digest;
  /** Config and layer. */
  readonly blobs: ReadonlyMap<Digest, BlobContent>;
}

export interface GearImageParts {
  /** The source's config, verbatim, and when it says that it was created. */
  readonly config: Buffer;
  readonly created: string | undefined;
  readonly descriptor: Descriptor;
  /** The encoded index. */
  readonly index: Buffer;
}

function header(type: 'file' | 'directory', path: string, size: number): TarHeader {
  const owner = { uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0, link: '', major: 0, minor: 0 };
  return { ...owner, path, type, size, mode: type === 'directory' ? 0o755 : 0o444, xattrs: new Map() };
}

async function* entries(
  parts: GearImageParts,
): AsyncGenerator<{ header: TarHeader; content?: AsyncIterable<Uint8Array> }> {
  const file = (path: string, bytes: Uint8Array) => ({
    header: header('file', path, bytes.length),
    content: (async function* () {
      yield bytes;
    })(),
  });
  yield { header: header('directory', GEAR_FOLDER, 0) };
  yield file(DESCRIPTOR_PATH, encodeDescriptor(parts.descriptor));
  yield file(INDEX_PATH, parts.index);
}

/** Makes the Gear image. The same parts always give the same bytes: nothing in it tells the time, the place or the machine. */
export async function buildGearImage(parts: GearImageParts): Promise<GearImage> {
  const tar = Buffer.concat(await Array.fromAsync(writeTar(entries(parts))));
  const diffId = digestOf(tar);
  const layer = await promisify(gzip)(tar, {
    level: 6,
    memLevel: 8,
    windowBits: 15,
    strategy: constants.Z_DEFAULT_STRATEGY,
  });
  const history = {
    ...(parts.created === undefined ? {} : { created: parts.created }),
    created_by: `gear convert ${ociDigest(parts.descriptor.source.digest)}`,
    comment: GEAR_COMMENT,
  };
  const config = withLayers(parts.config, [diffId], [history]);
  const [layerDigest, configDigest] = [digestOf(layer), digestOf(config)];
  const manifest = encodeManifest({
    config: { mediaType: MEDIA.ociConfig, digest: configDigest, size: config.length },
    layers: [{ mediaType: MEDIA.ociLayerGzip, digest: layerDigest, size: layer.length }],
  });
  const blobs = new Map<Digest, BlobContent>([
    [configDigest, config],
    [layerDigest, layer],
  ]);
  return { manifest, manifestDigest: digestOf(manifest), configDigest, blobs };
}
