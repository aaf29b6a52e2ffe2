import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { type Descriptor, encodeDescriptor } from '#core/index/descriptor.ts';
import { type ObjectFacts, ObjectTable, writeObjectTable } from '#core/index/object-table.ts';
import { compileIndex, type IndexFormat } from './compile.ts';
import type { MadeImage } from './image-store.ts';

/** A layer's table does not lie under the name that makes the object filesystem show an image. */
const LAYER_OBJECTS = 'layer-objects';

/** The index of one layer, and where it is going to lie. */
export interface LayerSource {
  /** The id on this node: the index's digest, or `layerVariantId`. */
  readonly id: Digest;
  /** Digest of the index. */
  readonly index: Digest;
  /** The encoded index; asked for only where it is not here yet. */
  readonly bytes: () => Promise<Uint8Array>;
  /** Digest of the layer's blob. */
  readonly blob: Digest;
  /** See CompileRequest. */
  readonly lowers?: readonly string[];
}

/** The id of a layer's index as it looks over certain layers below. `chain` names the layer and all below it (OCI's chain id). */
export function layerVariantId(index: Digest, chain: string): Digest {
  return digestOf(Buffer.from(`gear layer ${index} in ${chain}\n`));
}

/** The id of the objects of these layers together, from the top down. */
export function unionId(layers: readonly Digest[]): Digest {
  return digestOf(Buffer.from(`gear union\n${layers.join('\n')}\n`));
}

/** Compiles a layer's index in the folder of a new image. Throws corrupt where the bytes are not the index of a layer with this digest. */
export async function makeLayer(
  { index, bytes: encoded, blob, lowers }: LayerSource,
  { folder, slot, format }: { folder: string; slot: number; format: IndexFormat },
): Promise<MadeImage> {
  const bytes = await encoded();
  await writeFile(join(folder, 'index'), bytes);
  const request = { folder, image: index, slot, format, ...(lowers === undefined ? {} : { lowers }) };
  const { kind, summary, implied, warnings } = await compileIndex(request);
  if (kind !== 'layer') {
    throw new GearError('corrupt', `the index ${ociDigest(index)} is the index of an image, not of a layer`);
  }
  const table = join(folder, LAYER_OBJECTS);
  await rename(join(folder, 'objects'), table);
  const descriptor: Descriptor = {
    version: 1,
    index: { digest: index, size: bytes.length },
    source: { digest: blob },
    chunkSize: ObjectTable.open(table).chunkSize,
    entries: summary.entries,
    objects: summary.objects,
    bytes: summary.objectBytes,
  };
  await writeFile(join(folder, 'descriptor.json'), encodeDescriptor(descriptor));
  return { kind, descriptor, summary: { ...summary, implied }, warnings };
}

/** Puts the objects of layers, from the top down, together in the folder of a new image. Throws unsupported where their chunks have different sizes. */
export async function makeUnion(
  layers: readonly Digest[],
  folders: readonly string[],
  { folder, slot }: { folder: string; slot: number },
): Promise<MadeImage> {
  const objects = new Map<Digest, ObjectFacts>();
  let chunkSize: number | undefined;
  for (const from of folders) {
    const table = ObjectTable.open(join(from, LAYER_OBJECTS));
    chunkSize ??= table.chunkSize;
    if (table.chunkSize !== chunkSize) {
      throw new GearError(
        'unsupported',
        `layers converted with chunks of ${chunkSize} and of ${table.chunkSize} bytes cannot be mounted together; convert the image again`,
      );
    }
    for (const { digest, size, chunkDigests } of table.rows()) objects.set(digest, { size, chunkDigests });
  }
  if (chunkSize === undefined) throw new GearError('invalid-argument', 'a union of no layers');
  const table = writeObjectTable(objects, { slot, chunkSize });
  if (objects.size > 0) await writeFile(join(folder, 'objects'), table, { mode: 0o444 });
  let objectBytes = 0;
  for (const { size } of objects.values()) objectBytes += size;
  const descriptor: Descriptor = {
    version: 1,
    index: { digest: unionId(layers), size: table.length },
    source: { digest: layers[0] as Digest },
    chunkSize,
    entries: 0,
    objects: objects.size,
    bytes: objectBytes,
  };
  await writeFile(join(folder, 'descriptor.json'), encodeDescriptor(descriptor));
  const summary = { entries: 0, files: 0, fileBytes: 0, objects: objects.size, objectBytes };
  return { kind: 'union', descriptor, summary, warnings: [] };
}
