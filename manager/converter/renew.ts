import { digestOf } from '#core/digest.ts';
import { decodeIndex } from '#core/index/encode.ts';
import { formatReference } from '../registry/reference.ts';
import { buildGearImage, type GearImage } from './gear-image.ts';
import type { Job } from './job.ts';
import { isPublished, publish } from './publish.ts';
import type { ConversionResult } from './request.ts';
import type { ImageRecord } from './target.ts';

/** The Gear image of a record, byte by byte as it was made when the image was converted. */
export async function gearImageOf(record: ImageRecord, index: Buffer): Promise<GearImage> {
  const json = JSON.parse(record.config.toString('utf8')) as { created?: unknown };
  return await buildGearImage({
    config: record.config,
    created: typeof json.created === 'string' && json.created !== '' ? json.created : undefined,
    descriptor: {
      version: 1,
      index: { digest: digestOf(index), size: index.length },
      source: { digest: record.sourceDigest },
      chunkSize: decodeIndex(index).chunkSize,
      entries: record.entries,
      objects: record.objects,
      bytes: record.objectBytes,
    },
    index,
  });
}

/**
 * What is left to do for an image that the target has: nothing, or to bring its Gear image to a destination that does not have it. No layer is fetched.
 */
export async function renew(job: Job, record: ImageRecord): Promise<ConversionResult> {
  const { options, destination, scratch, skopeo, progress } = job;
  const { target, signal } = options;
  const source = formatReference(job.source);
  let changed: ImageRecord = { ...record, source };
  let published = true;
  if (destination !== undefined) {
    let gear: Promise<GearImage> | undefined;
    const gearImage = async () => {
      gear ??= target.readIndex(record.indexDigest, { signal }).then(async (index) => await gearImageOf(record, index));
      return await gear;
    };
    const expected = record.gearDigest ?? (await gearImage()).manifestDigest;
    published = await isPublished(destination, expected, async () => (await gearImage()).configDigest, skopeo);
    let gearDigest = expected;
    if (!published) {
      progress.update({ phase: 'push' });
      gearDigest = await publish(await gearImage(), destination, { ...skopeo, layout: scratch.layout });
    }
    changed = { ...changed, destination: formatReference(destination), gearDigest };
  }
  const same =
    changed.source === record.source &&
    changed.destination === record.destination &&
    changed.gearDigest === record.gearDigest;
  const image = same ? record : await target.putImage(changed, { signal });
  return { image, unchanged: published };
}
