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
  { target, force, signal }: LayersOptions,
): Promise<ConvertedLayer | undefined> {
  const record = force ? undefined : await target.findLayer(diffId, { signal });
  if (record === undefined || record.linkedBelow) return undefined;
  const tree = decodeIndex(await target.readIndex(record.indexDigest, { signal }));
  return tree.chunkSize === target.chunkSize ? { record, tree, index: undefined } : undefined;
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

/** What is to be done with one layer. */
interface Step {
  /** Names it in errors. */
  readonly what: string;
  readonly blob: Descriptor;
  readonly diffId: Digest;
  readonly known: ConvertedLayer | undefined;
}

async function openReader(
  { what, blob, diffId }: Step,
  path: string,
  { progress, objects, signal }: LayersOptions,
): Promise<LayerReader> {
  const onRead = (bytes: number) => {
    const { newObjects, newBytes } = objects;
    progress.update({ doneBytes: progress.state.doneBytes + bytes, newObjects, newBytes });
  };
  return await LayerReader.open(path, blob, { name: what, diffId, signal, onRead });
}

async function convertLayer(step: Step, path: string, lower: Tree, options: LayersOptions): Promise<ConvertedLayer> {
  const { what, blob, diffId } = step;
  await using reader = await openReader(step, path, options);
  const { tree, warnings } = await readLayer(reader, what, lower, options);
  const { tarSize } = await reader.finish();
  const index = encodeIndex(tree);
  const linkedBelow = isLinkedBelow(tree);
  const indexDigest = digestOf(index);
  const record = { blobDigest: blob.digest, diffId, indexDigest, blobSize: blob.size, tarSize, linkedBelow, warnings };
  return { record, tree, index };
}

/** A layer that is known in another blob, say in another compression: this blob must be what it claims to be, too. */
async function verifyLayer(
  known: ConvertedLayer,
  step: Step,
  path: string,
  options: LayersOptions,
): Promise<ConvertedLayer> {
  await using reader = await openReader(step, path, options);
  await reader.finish();
  const { digest, size } = step.blob;
  return { ...known, record: { ...known.record, blobDigest: digest, blobSize: size } };
}

async function planSteps({ image }: FetchedImage, config: ImageConfig, options: LayersOptions): Promise<Step[]> {
  const { name, manifest } = image;
  const steps: Step[] = [];
  for (const [i, blob] of manifest.layers.entries()) {
    const diffId = config.diffIds[i] as Digest;
    const what = `${name}: layer ${i + 1} of ${manifest.layers.length} (${ociDigest(blob.digest)})`;
    steps.push({ what, blob, diffId, known: await knownLayer(diffId, options) });
  }
  return steps;
}

/**
 * Turns the layers of an image, from the lowest up, into trees; their objects go to the target while they are read. Blobs that the target knows are neither
 * fetched nor read again. Throws corrupt, naming the layer, where its blob is not what manifest and config say.
 */
export async function convertLayers(
  fetched: FetchedImage,
  config: ImageConfig,
  options: LayersOptions,
): Promise<ConvertedLayer[]> {
  const { progress } = options;
  const steps = await planSteps(fetched, config, options);
  const totalBytes = steps.reduce((sum, { blob }) => sum + blob.size, 0);
  progress.update({ phase: 'fetch', layers: steps.length, totalBytes });
  fetched.skip(steps.filter(isDone).map(({ blob }) => blob));
  const converted: ConvertedLayer[] = [];
  let done = 0;
  for (const [i, step] of steps.entries()) {
    const same = converted.find(
      ({ record }) => record.blobDigest === step.blob.digest && record.diffId === step.diffId && !record.linkedBelow,
    );
    let layer = same ?? (isDone(step) ? step.known : undefined);
    if (layer === undefined) {
      const path = await fetched.blob(step.blob.digest);
      progress.update({ phase: 'layers', layer: i + 1, doneBytes: done });
      layer =
        step.known === undefined
          ? await convertLayer(step, path, stack(converted.map(({ tree }) => tree)), options)
          : await verifyLayer(step.known, step, path, options);
    }
    done += step.blob.size;
    if (progress.state.phase === 'layers') progress.update({ layer: i + 1, doneBytes: done });
    converted.push(layer);
  }
  return converted;
}

/** Whether nothing is left to do, as the target knows this very blob. */
function isDone({ known, blob }: Step): boolean {
  return known?.record.blobDigest === blob.digest;
}
