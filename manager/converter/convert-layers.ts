import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { GearError, isGearError } from '#core/errors.ts';
import { decodeIndex, encodeIndex } from '#core/index/encode.ts';
import { layerFromTar } from '#core/index/layer.ts';
import { originOf } from '#core/index/link-origin.ts';
import { stack } from '#core/index/stack.ts';
import { type Tree, walk } from '#core/index/tree.ts';
import type { TarEntry } from '#core/tar/entry.ts';
import { readTar } from '#core/tar/reader.ts';
import type { Descriptor } from '../registry/manifest.ts';
import type { FetchedImage } from './fetch.ts';
import type { ImageConfig } from './image-config.ts';
import { LayerReader } from './layer-reader.ts';
import type { Progress } from './progress.ts';
import type { ConversionTarget, LayerRecord, TargetObjects } from './target.ts';

export interface LayersOptions {
  readonly target: ConversionTarget;
  readonly objects: TargetObjects;
  readonly progress: Progress;
  /** Converts also layers that the target knows. */
  readonly force: boolean;
  readonly signal: AbortSignal;
}

/** A layer as a tree. `index` is its encoding where the target does not have it yet. */
export interface ConvertedLayer {
  readonly record: LayerRecord;
  readonly tree: Tree;
  readonly index: Buffer | undefined;
  readonly warnings: readonly string[];
}

async function* counted(entries: AsyncIterable<TarEntry>, progress: Progress): AsyncGenerator<TarEntry> {
  for await (const entry of entries) {
    progress.state.entries++;
    yield entry;
  }
}

/** The layer as the target has it from an earlier conversion. */
async function knownLayer(
  diffId: Digest,
  blob: Descriptor,
  { target, force, signal }: LayersOptions,
): Promise<ConvertedLayer | undefined> {
  const record = force ? undefined : await target.findLayer(diffId, { signal });
  if (record === undefined || record.linkedBelow) return undefined;
  const tree = decodeIndex(await target.readIndex(record.indexDigest, { signal }));
  if (tree.chunkSize !== target.chunkSize) return undefined;
  return { record: { ...record, blobDigest: blob.digest, blobSize: blob.size }, tree, index: undefined, warnings: [] };
}

/** Whether the layer has hard links to names of the layers below. */
function isLinkedBelow({ root }: Tree): boolean {
  return walk(root).some(({ inode }) => originOf(inode) !== undefined);
}

/** The tree of a layer's tar. What is wrong with the blob as a whole is told rather than what that did to the tar in it. */
async function readLayer(
  reader: LayerReader,
  what: string,
  lower: Tree,
  options: LayersOptions,
): Promise<{ tree: Tree; warnings: string[] }> {
  const { target, objects, progress, signal } = options;
  try {
    const entries = counted(readTar(reader.content, { signal }), progress);
    return await layerFromTar(entries, objects, { chunkSize: target.chunkSize, lower, signal });
  } catch (error) {
    if (!isGearError(error) || signal.aborted || error.message.startsWith(what)) throw error;
    const isInvalid = error.code === 'corrupt' || error.code === 'invalid-argument';
    if (isInvalid) await reader.finish();
    // What the layer says cannot be is no argument of whoever asked.
    throw new GearError(isInvalid ? 'corrupt' : error.code, `${what}: ${error.message}`, { cause: error });
  }
}

async function convertLayer(
  what: string,
  blob: Descriptor,
  diffId: Digest,
  path: string,
  lower: Tree,
  options: LayersOptions,
): Promise<ConvertedLayer> {
  const { progress, objects, signal } = options;
  await using reader = await LayerReader.open(path, blob, {
    name: what,
    diffId,
    signal,
    onRead: (bytes) => {
      const { newObjects, newBytes } = objects;
      progress.update({ doneBytes: progress.state.doneBytes + bytes, newObjects, newBytes });
    },
  });
  const { tree, warnings } = await readLayer(reader, what, lower, options);
  const { tarSize } = await reader.finish();
  const index = encodeIndex(tree);
  const linkedBelow = isLinkedBelow(tree);
  const record = {
    blobDigest: blob.digest,
    diffId,
    indexDigest: digestOf(index),
    blobSize: blob.size,
    tarSize,
    linkedBelow,
  };
  return { record, tree, index, warnings: warnings.map((warning) => `${what}: ${warning}`) };
}

/**
 * Turns the layers of an image, from the lowest up, into trees; their objects go to the target while they are read. Layers that the target knows are not fetched, if
 * that can be helped, and not read again. Throws corrupt, naming the layer, where its blob is not what manifest and config say.
 */
export async function convertLayers(
  fetched: FetchedImage,
  config: ImageConfig,
  options: LayersOptions,
): Promise<ConvertedLayer[]> {
  const { name, manifest } = fetched.image;
  const { progress } = options;
  const total = manifest.layers.length;
  progress.update({
    phase: 'fetch',
    layers: total,
    totalBytes: manifest.layers.reduce((sum, { size }) => sum + size, 0),
  });
  const converted: ConvertedLayer[] = [];
  let done = 0;
  for (const [i, blob] of manifest.layers.entries()) {
    const diffId = config.diffIds[i] as Digest;
    const what = `${name}: layer ${i + 1} of ${total}`;
    const same = converted.find(({ record }) => record.diffId === diffId && !record.linkedBelow);
    let layer = same ?? (await knownLayer(diffId, blob, options));
    if (layer === undefined) {
      const path = await fetched.blob(blob.digest);
      progress.update({ phase: 'layers', layer: i + 1, doneBytes: done });
      const lower = stack(converted.map(({ tree }) => tree));
      layer = await convertLayer(`${what} (${ociDigest(blob.digest)})`, blob, diffId, path, lower, options);
    }
    done += blob.size;
    if (progress.state.phase === 'layers') progress.update({ layer: i + 1, doneBytes: done });
    converted.push(layer);
  }
  return converted;
}
