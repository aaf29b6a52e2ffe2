import { digestOf, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import {
  DESCRIPTOR_PATH,
  type Descriptor,
  GEAR_FOLDER,
  INDEX_PATH,
  MAX_DESCRIPTOR_BYTES,
  parseDescriptor,
} from '#core/index/descriptor.ts';
import { decodeIndex } from '#core/index/encode.ts';
import type { Tree } from '#core/index/tree.ts';
import type { TarEntry } from '#core/tar/entry.ts';
import { readTar } from '#core/tar/reader.ts';
import type { FetchedImage } from './fetch.ts';
import type { ImageConfig } from './image-config.ts';
import { LayerReader } from './layer-reader.ts';

/** An index is held in memory; a larger one than this is none. */
const MAX_INDEX_BYTES = 1024 * 1024 * 1024;

export interface GearLayer {
  readonly descriptor: Descriptor;
  /** The image's tree. */
  readonly tree: Tree;
}

async function bytesOf(entry: TarEntry, most: number, name: string): Promise<Buffer> {
  if (entry.size > most)
    throw new GearError('corrupt', `${name}: ${entry.path} has ${entry.size} bytes, more than ${most}`);
  return Buffer.concat(await Array.fromAsync(entry.content));
}

/**
 * Reads the Gear layer of an image, which is its lowest, and verifies all of it. Throws invalid-argument if it is not a Gear image, corrupt where the layer is not
 * what it should be.
 */
export async function readGearLayer(
  fetched: FetchedImage,
  config: ImageConfig,
  signal: AbortSignal,
): Promise<GearLayer> {
  const { name, manifest } = fetched.image;
  const notGear = new GearError(
    'invalid-argument',
    `${name} is not a Gear image: its lowest layer holds no ${GEAR_FOLDER}/`,
  );
  const [blob] = manifest.layers;
  const [diffId] = config.diffIds;
  if (blob === undefined || diffId === undefined) throw notGear;
  const path = await fetched.blob(blob.digest);
  await using reader = await LayerReader.open(path, blob, {
    name: `${name}: the Gear layer (${ociDigest(blob.digest)})`,
    diffId,
    signal,
  });
  let descriptorBytes: Buffer | undefined;
  let index: Buffer | undefined;
  for await (const entry of readTar(reader.content, { signal })) {
    // An ordinary layer may be large: the first entry tells.
    const entryPath = entry.path.replace(/^(\.?\/)+/, '').replace(/\/$/, '');
    if (entry.type === 'file' && entryPath === DESCRIPTOR_PATH)
      descriptorBytes = await bytesOf(entry, MAX_DESCRIPTOR_BYTES, name);
    else if (entry.type === 'file' && entryPath === INDEX_PATH) index = await bytesOf(entry, MAX_INDEX_BYTES, name);
    else if (entry.type !== 'directory' || (entryPath !== GEAR_FOLDER && entryPath !== '' && entryPath !== '.'))
      throw notGear;
  }
  await reader.finish();
  if (descriptorBytes === undefined || index === undefined) throw notGear;
  const descriptor = parseDescriptor(descriptorBytes);
  if (index.length !== descriptor.index.size || digestOf(index) !== descriptor.index.digest) {
    throw new GearError(
      'corrupt',
      `${name}: its index is ${ociDigest(digestOf(index))}, the descriptor says ${ociDigest(descriptor.index.digest)}`,
    );
  }
  const tree = decodeIndex(index);
  if (tree.kind !== 'image') throw new GearError('corrupt', `${name}: its index is that of a layer`);
  return { descriptor, tree };
}
