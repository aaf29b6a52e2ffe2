import { digestOf } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { encodeIndex } from '#core/index/encode.ts';
import { summarize } from '#core/index/objects.ts';
import { stack } from '#core/index/stack.ts';
import { daemonImageId } from '../registry/daemon-image.ts';
import { formatPlatform, type Platform, platformMatches } from '../registry/platform.ts';
import { formatReference, type ImageReference, parseReference } from '../registry/reference.ts';
import { convertLayers } from './convert-layers.ts';
import { type FetchedImage, fetchImage, fetchWhole } from './fetch.ts';
import { buildGearImage } from './gear-image.ts';
import { parseConfig, startsWithGearLayer } from './image-config.ts';
import type { Job } from './job.ts';
import { Progress } from './progress.ts';
import { destinationFor, publish } from './publish.ts';
import { renew } from './renew.ts';
import type { ConversionOptions, ConversionRequest, ConversionResult } from './request.ts';
import { resolveImage } from './resolve.ts';
import { openScratch } from './scratch.ts';
import { Slots } from './slots.ts';
import type { ImageRecord } from './target.ts';

/** Conversions of one process that work at the same time, unless the caller says otherwise; each needs a core and some memory. */
const usualSlots = new Slots(2);

/**
 * Converts an image: its layers become indexes and objects in the target, and a Gear image is written to the destination. Where the target has the source's
 * digest, and the destination the Gear image, nothing is done. Throws GearError: invalid-argument (references), not-found, unsupported (what is no
 * ordinary Linux image, by name), corrupt (naming the layer), unauthenticated, unavailable, resource-exhausted. Leaves nothing behind when it fails but
 * objects that nobody uses, which garbage collection takes.
 */
export async function convertImage(request: ConversionRequest, options: ConversionOptions): Promise<ConversionResult> {
  const { log, signal, access } = options;
  const source = parseReference(request.source);
  const destination = request.noPush === true ? undefined : destinationFor(source, request.destination);
  checkTransports(options, source, destination);
  await using scratch = await openScratch(options.scratch);
  const progress = new Progress(options.onProgress);
  progress.update({ phase: 'resolve' });
  const skopeo = { access, tmpdir: scratch.temporary, log, signal };
  const job: Job = { request, options, source, destination, scratch, skopeo, progress };
  const result = await convertOrRenew(job);
  progress.update({ phase: 'done' });
  const { image, unchanged } = result;
  log.info(
    { source: image.source, destination: image.destination, index: image.indexDigest, unchanged },
    'image converted',
  );
  return result;
}

function checkTransports({ transports }: ConversionOptions, ...references: (ImageReference | undefined)[]): void {
  if (transports === undefined) return;
  for (const reference of references) {
    if (reference === undefined || transports.includes(reference.transport)) continue;
    const advice = 'convert it with "gear convert --local" on the machine that it is on';
    throw new GearError('permission-denied', `${formatReference(reference)}: not for others to name here; ${advice}`);
  }
}

async function convertOrRenew(job: Job): Promise<ConversionResult> {
  const { request, options, source, scratch, skopeo, progress } = job;
  const { target, signal, slots = usualSlots } = options;
  const known = async (record: ImageRecord | undefined, chosen: boolean) => {
    if (record === undefined || request.force === true) return undefined;
    checkPlatform(job, record.platform, chosen);
    return await renew(job, record);
  };
  const fetching = { ...skopeo, folder: scratch.blobs, onBytes: (bytes: number) => onFetched(progress, bytes) };

  if (source.transport === 'docker-daemon') {
    const result = await known(await findByImageId(job), false);
    if (result !== undefined) return result;
    using _slot = await slots.acquire({ signal });
    progress.update({ phase: 'fetch' });
    await using fetched = await fetchWhole(source, fetching);
    const again = await known(await target.findImage(fetched.image.manifest.digest, { signal }), false);
    return again ?? (await convert(job, fetched));
  }
  const image = await resolveImage(source, request.platform, skopeo);
  const result = await known(await target.findImage(image.manifest.digest, { signal }), image.chosen);
  if (result !== undefined) return result;
  using _slot = await slots.acquire({ signal });
  await using fetched = await fetchImage(image, fetching);
  return await convert(job, fetched);
}

function onFetched(progress: Progress, bytes: number): void {
  if (progress.state.phase === 'fetch') progress.update({ doneBytes: bytes });
}

/** The record of what this daemon's name meant before, if it still means that. */
async function findByImageId({ source, options, skopeo }: Job): Promise<ImageRecord | undefined> {
  if (source.transport !== 'docker-daemon') return undefined;
  const record = await options.target.findSource(formatReference(source), { signal: options.signal });
  if (record === undefined) return undefined;
  return (await daemonImageId(source, skopeo)) === digestOf(record.config) ? record : undefined;
}

/** An image that no list offers may be for another platform than was asked for. */
function checkPlatform({ request, source }: Job, offered: Platform, chosen: boolean): void {
  if (chosen || request.platform === undefined || platformMatches(request.platform, offered)) return;
  const there = formatPlatform(offered);
  throw new GearError(
    'not-found',
    `${formatReference(source)}: no image for ${formatPlatform(request.platform)}; there is ${there}`,
  );
}

async function convert(job: Job, fetched: FetchedImage): Promise<ConversionResult> {
  const { options, destination, source, scratch, skopeo, progress, request } = job;
  const { target, signal } = options;
  const { manifest, name } = fetched.image;
  const config = parseConfig(await fetched.config(), manifest, name);
  if (startsWithGearLayer(config)) {
    const advice = '"gear export" makes an ordinary image of it';
    throw new GearError('invalid-argument', `${name}: it already is a Gear image, or is built on one; ${advice}`);
  }
  checkPlatform(job, config.platform, fetched.image.chosen);

  await using objects = await target.openObjects({ signal });
  const layers = await convertLayers(fetched, config, {
    target,
    objects,
    progress,
    force: request.force === true,
    signal,
  });
  progress.update({ phase: 'index' });
  await objects.commit();
  progress.update({ newObjects: objects.newObjects, newBytes: objects.newBytes });
  for (const { index } of layers) if (index !== undefined) await target.putIndex(index, { signal });
  const tree = stack(layers.map((layer) => layer.tree));
  const summary = summarize(tree);
  const index = encodeIndex(tree);
  const indexDigest = await target.putIndex(index, { signal });

  let gearDigest: ImageRecord['gearDigest'];
  if (destination !== undefined) {
    progress.update({ phase: 'push' });
    const descriptor = {
      version: 1,
      index: { digest: indexDigest, size: index.length },
      source: { digest: manifest.digest },
      chunkSize: tree.chunkSize,
      entries: summary.entries,
      objects: summary.objects,
      bytes: summary.objectBytes,
    } as const;
    const gear = await buildGearImage({ config: config.bytes, created: config.created, descriptor, index });
    gearDigest = await publish(gear, destination, { ...skopeo, layout: scratch.layout });
  }
  const image = await target.putImage(
    {
      source: formatReference(source),
      destination: destination === undefined ? '' : formatReference(destination),
      sourceDigest: manifest.digest,
      gearDigest,
      platform: config.platform,
      indexDigest,
      indexSize: index.length,
      layers: layers.map(({ record }) => record),
      objects: summary.objects,
      objectBytes: summary.objectBytes,
      fileBytes: summary.fileBytes,
      entries: summary.entries,
      config: config.bytes,
      configMediaType: manifest.config.mediaType,
      convertedAt: Date.now(),
      warnings: layers.flatMap(({ record }, i) =>
        record.warnings.map((warning) => `layer ${i + 1} of ${layers.length}: ${warning}`),
      ),
    },
    { signal },
  );
  return { image, unchanged: false };
}
