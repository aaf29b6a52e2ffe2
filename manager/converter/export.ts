import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { GearError, orUndefined } from '#core/errors.ts';
import type { Connection } from '#core/grpc/client.ts';
import { summarize } from '#core/index/objects.ts';
import type { Logger } from '#core/log.ts';
import type { RegistryAccess } from '../registry/access.ts';
import { type Descriptor, encodeManifest, MEDIA } from '../registry/manifest.ts';
import type { BlobContent } from '../registry/oci-layout.ts';
import type { Platform } from '../registry/platform.ts';
import { formatReference, type ImageReference, parseReference } from '../registry/reference.ts';
import { type FetchedImage, fetchImage, fetchWhole } from './fetch.ts';
import { readGearLayer } from './gear-layer.ts';
import { GEAR_COMMENT, type HistoryEntry, type ImageConfig, parseConfig, withLayers } from './image-config.ts';
import { compressionOfFile } from './layer-reader.ts';
import { writeOrdinaryLayer } from './ordinary-layer.ts';
import { type BuiltImage, checkDestination, publish } from './publish.ts';
import { resolveImage } from './resolve.ts';
import { openScratch } from './scratch.ts';

const LAYER_TYPE = { gzip: MEDIA.ociLayerGzip, zstd: MEDIA.ociLayerZstd, none: MEDIA.ociLayer } as const;

export interface ExportProgress {
  readonly phase: 'resolve' | 'fetch' | 'objects' | 'push';
  /** Bytes of files that have come, and of all; of the image's own blobs in the phase "fetch", where the total is not known. */
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface ExportRequest {
  /** A Gear image, or an image built on one; in skopeo's words. */
  readonly source: string;
  readonly destination: string;
  readonly platform?: Platform | undefined;
}

export interface ExportOptions {
  /** To the manager that has the objects. */
  readonly connection: Connection;
  /** A folder with room for the image, compressed. */
  readonly scratch: string;
  readonly access?: RegistryAccess | undefined;
  readonly log: Logger;
  readonly signal: AbortSignal;
  readonly onProgress?: ((progress: ExportProgress) => void) | undefined;
}

export interface ExportResult {
  readonly source: string;
  readonly destination: string;
  /** Of the manifest as it was made; a daemon keeps none, a registry may have wanted another type. */
  readonly digest: Digest;
  /** Of the config: Docker's image id. */
  readonly imageId: Digest;
  readonly indexDigest: Digest;
  /** Bytes of the files that the Gear layer stood for. */
  readonly fileBytes: number;
}

/** The history with another entry in the place of the Gear layer's, which is the first that has a layer. */
function ordinaryHistory({ history, created }: ImageConfig, source: Digest): HistoryEntry[] {
  const entry = { ...(created === undefined ? {} : { created }), created_by: `gear export ${ociDigest(source)}` };
  const at = history.findIndex((each) => each['comment'] === GEAR_COMMENT);
  return at < 0 ? [entry, ...history] : history.with(at, { ...entry, ...pickCreated(history[at]) });
}

function pickCreated(entry: HistoryEntry | undefined): HistoryEntry {
  return typeof entry?.['created'] === 'string' ? { created: entry['created'] } : {};
}

/** The layers above the Gear layer, as they are. */
async function upperLayers(fetched: FetchedImage): Promise<{ descriptor: Descriptor; content: BlobContent }[]> {
  const { name, manifest } = fetched.image;
  const layers: { descriptor: Descriptor; content: BlobContent }[] = [];
  for (const [i, { digest, size }] of manifest.layers.entries()) {
    if (i === 0) continue;
    const file = resolve(await fetched.blob(digest));
    // A daemon's layers come uncompressed, whatever their type says.
    const compression = await compressionOfFile(file, `${name}: layer ${i + 1}`);
    layers.push({ descriptor: { mediaType: LAYER_TYPE[compression], digest, size }, content: { file } });
  }
  return layers;
}

async function checkExportDestination(text: string, source: ImageReference): Promise<ImageReference> {
  const destination = checkDestination(parseReference(text));
  const name = formatReference(destination);
  if (name === formatReference(source))
    throw new GearError('invalid-argument', `${name}: the image would replace its source`);
  if (
    destination.transport === 'docker-archive' &&
    (await orUndefined(stat(destination.path), 'ENOENT')) !== undefined
  ) {
    throw new GearError(
      'already-exists',
      `${destination.path}: there is a file of this name; an archive is written once`,
    );
  }
  return destination;
}

/**
 * Makes an ordinary image of a Gear image, or of an image built on one: the Gear layer becomes the one layer that holds the same tree, what lies above stays
 * as it is, and so does the config but for rootfs and history. Throws invalid-argument for an ordinary image; what the manager does not have is
 * not-found, naming the object. Leaves nothing behind when it fails.
 */
export async function exportImage(request: ExportRequest, options: ExportOptions): Promise<ExportResult> {
  const { connection, access, log, signal, onProgress } = options;
  const source = parseReference(request.source);
  const destination = await checkExportDestination(request.destination, source);
  await using scratch = await openScratch(options.scratch);
  const tell = (phase: ExportProgress['phase'], doneBytes = 0, totalBytes = 0) =>
    onProgress?.({ phase, doneBytes, totalBytes });
  tell('resolve');
  const skopeo = { access, tmpdir: scratch.temporary, log, signal };
  const fetching = { ...skopeo, folder: scratch.blobs, onBytes: (bytes: number) => tell('fetch', bytes) };
  await using fetched =
    source.transport === 'docker-daemon'
      ? await fetchWhole(source, fetching)
      : await fetchImage(await resolveImage(source, request.platform, skopeo), fetching);
  const { manifest, name } = fetched.image;
  const config = parseConfig(await fetched.config(), manifest, name);
  const gear = await readGearLayer(fetched, config, signal);
  const uppers = await upperLayers(fetched);

  const { fileBytes } = summarize(gear.tree);
  let done = 0;
  tell('objects', 0, fileBytes);
  const file = join(scratch.blobs, 'ordinary-layer');
  // Daemons and archives take layers uncompressed.
  const gzip = destination.transport === 'docker' || destination.transport === 'oci';
  const onBytes = (bytes: number) => {
    done += bytes;
    tell('objects', done, fileBytes);
  };
  const layer = await writeOrdinaryLayer(gear.tree, { connection, path: file, gzip, signal, onBytes });
  const image = ordinaryImage(config, gear.descriptor.source.digest, { ...layer, file, gzip }, uppers);
  tell('push', fileBytes, fileBytes);
  const digest = await publish(image, destination, { ...skopeo, layout: scratch.layout });
  const result = {
    source: formatReference(source),
    destination: formatReference(destination),
    digest,
    imageId: image.configDigest,
    indexDigest: gear.descriptor.index.digest,
    fileBytes,
  };
  log.info(result, 'image exported');
  return result;
}

function ordinaryImage(
  config: ImageConfig,
  source: Digest,
  layer: { digest: Digest; diffId: Digest; size: number; file: string; gzip: boolean },
  uppers: readonly { descriptor: Descriptor; content: BlobContent }[],
): BuiltImage {
  const diffIds = [layer.diffId, ...config.diffIds.slice(1)];
  const bytes = withLayers(config.bytes, diffIds, ordinaryHistory(config, source));
  const configDigest = digestOf(bytes);
  const lowest = { mediaType: LAYER_TYPE[layer.gzip ? 'gzip' : 'none'], digest: layer.digest, size: layer.size };
  const manifest = encodeManifest({
    config: { mediaType: MEDIA.ociConfig, digest: configDigest, size: bytes.length },
    layers: [lowest, ...uppers.map(({ descriptor }) => descriptor)],
  });
  const blobs = new Map<Digest, BlobContent>([
    [configDigest, bytes],
    [layer.digest, { file: layer.file }],
    ...uppers.map(({ descriptor, content }) => [descriptor.digest, content] as const),
  ]);
  return { manifest, manifestDigest: digestOf(manifest), configDigest, blobs };
}
