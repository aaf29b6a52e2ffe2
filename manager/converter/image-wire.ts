import { ociDigest, parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Image, Layer } from '#proto/gen/gear/v1/images.ts';
import type { ImageRecord, LayerRecord } from './target.ts';

/** A size from the wire as a number. Throws invalid-argument beyond 2^53. */
function sizeOf(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new GearError('invalid-argument', `${what} is too large: ${value}`);
  return Number(value);
}

/** A layer's record as a message. */
export function layerToWire(layer: LayerRecord): Layer {
  return {
    blobDigest: ociDigest(layer.blobDigest),
    diffId: ociDigest(layer.diffId),
    indexDigest: ociDigest(layer.indexDigest),
    blobSize: BigInt(layer.blobSize),
    tarSize: BigInt(layer.tarSize),
    linkedBelow: layer.linkedBelow,
    warnings: [...layer.warnings],
  };
}

/** A layer's record from a message. Throws invalid-argument. */
export function layerFromWire(layer: Layer): LayerRecord {
  return {
    blobDigest: parseDigest(layer.blobDigest),
    diffId: parseDigest(layer.diffId),
    indexDigest: parseDigest(layer.indexDigest),
    blobSize: sizeOf(layer.blobSize, 'blob_size'),
    tarSize: sizeOf(layer.tarSize, 'tar_size'),
    linkedBelow: layer.linkedBelow,
    warnings: layer.warnings,
  };
}

/** An image's record as a message. */
export function imageToWire(image: ImageRecord): Image {
  return {
    source: image.source,
    destination: image.destination,
    sourceDigest: ociDigest(image.sourceDigest),
    gearDigest: image.gearDigest === undefined ? '' : ociDigest(image.gearDigest),
    platform: { ...image.platform },
    indexDigest: ociDigest(image.indexDigest),
    indexSize: BigInt(image.indexSize),
    layers: image.layers.map(layerToWire),
    objects: BigInt(image.objects),
    objectBytes: BigInt(image.objectBytes),
    fileBytes: BigInt(image.fileBytes),
    entries: BigInt(image.entries),
    config: image.config,
    configMediaType: image.configMediaType,
    convertedAt: BigInt(image.convertedAt),
    warnings: [...image.warnings],
  };
}

/** An image's record from a message. Throws invalid-argument. */
export function imageFromWire(image: Image): ImageRecord {
  return {
    source: image.source,
    destination: image.destination,
    sourceDigest: parseDigest(image.sourceDigest),
    gearDigest: image.gearDigest === '' ? undefined : parseDigest(image.gearDigest),
    platform: image.platform ?? { os: '', architecture: '', variant: '' },
    indexDigest: parseDigest(image.indexDigest),
    indexSize: sizeOf(image.indexSize, 'index_size'),
    layers: image.layers.map(layerFromWire),
    objects: sizeOf(image.objects, 'objects'),
    objectBytes: sizeOf(image.objectBytes, 'object_bytes'),
    fileBytes: sizeOf(image.fileBytes, 'file_bytes'),
    entries: sizeOf(image.entries, 'entries'),
    config: image.config,
    configMediaType: image.configMediaType,
    convertedAt: sizeOf(image.convertedAt, 'converted_at'),
    warnings: image.warnings,
  };
}
