import type { Digest } from '#core/digest.ts';
import { isGearError } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { CataloguedImage } from '../catalog/catalog.ts';
import type { Store } from '../catalog/store.ts';
import type { WatchedTag } from '../catalog/watched-tags.ts';
import type { RegistryClient } from '../registry/client.ts';
import { type DockerReference, formatReference, gearDestination, parseReference } from '../registry/reference.ts';
import type { ConversionQueue } from './queue.ts';
import { coversSource, type WatchSpec } from './watch-spec.ts';

export interface ReleaseParts {
  readonly store: Pick<Store, 'findImages' | 'forgetImages'>;
  readonly queue: Pick<ConversionQueue, 'list' | 'remove' | 'gone' | 'offer'>;
  readonly client: RegistryClient;
  /** Whether a node has said lately that it has the image with this index: then its containers may still need what is here. */
  readonly isOnNode: (indexDigest: Digest) => boolean;
  /** Milliseconds for which what is not named any longer is kept. */
  readonly keep: number;
  readonly log: Logger;
}

/**
 * Lets go of what tags of a watched registry held: of a tag that was deleted everything (also its Gear image in the registry), of one that moved the
 * versions before. Only after a time, never while a node has the image, and never what somebody converted to another place.
 */
export async function releaseTags(
  parts: ReleaseParts,
  spec: WatchSpec,
  signal: AbortSignal,
  now = Date.now(),
): Promise<void> {
  for (const tag of parts.queue.list()) {
    if (tag.origin !== 'watch' || !coversSource(spec, tag.source)) continue;
    signal.throwIfAborted();
    if (tag.goneAt !== undefined) {
      if (tag.goneAt + parts.keep <= now) await releaseDeleted(parts, tag, signal);
    } else if (tag.state === 'ready' && tag.imageDigest !== undefined && tag.changedAt + parts.keep <= now) {
      await forget(parts, tag, ({ record }) => record.sourceDigest !== tag.imageDigest, signal);
    }
  }
}

async function releaseDeleted(parts: ReleaseParts, tag: WatchedTag, signal: AbortSignal): Promise<void> {
  const { queue, client, log } = parts;
  const reference = parseReference(tag.source);
  if (reference.transport !== 'docker' || reference.tag === undefined) return;
  // What was missing from a list may still be there.
  const found = await client.head(reference, reference.tag, { signal });
  if (found !== undefined) {
    if (found !== 'unchanged') queue.offer(tag.source, found.digest);
    return;
  }
  const gearDigests = imagesOf(parts, tag).flatMap(({ record }) => record.gearDigest ?? []);
  if (!(await forget(parts, tag, () => true, signal))) return;
  for (const gearDigest of new Set(gearDigests)) await deleteGearImage(parts, reference, gearDigest, signal);
  if (queue.remove(tag.source)) log.info({ source: tag.source }, 'a tag was deleted; what it held is released');
}

/** The records that the conversions of a watched tag made. */
function imagesOf({ store }: ReleaseParts, { source }: WatchedTag): CataloguedImage[] {
  const destination = formatReference(gearDestination(parseReference(source)));
  return store
    .findImages(source)
    .filter(({ record }) => record.source === source && ['', destination].includes(record.destination));
}

/** Forgets the tag's images that `fits` and that no node has. Gives whether none of those is left. */
async function forget(
  parts: ReleaseParts,
  tag: WatchedTag,
  fits: (image: CataloguedImage) => boolean,
  signal: AbortSignal,
): Promise<boolean> {
  let left = 0;
  const choose = () => {
    const chosen = imagesOf(parts, tag).filter(fits);
    const free = chosen.filter(({ record }) => !parts.isOnNode(record.indexDigest));
    left = chosen.length - free.length;
    return free.map(({ id }) => id);
  };
  if (choose().length > 0) await parts.store.forgetImages(choose, { signal });
  return left === 0;
}

/** Deletes a Gear image from the registry, if its tag still names it and no other tag does. */
async function deleteGearImage(
  parts: ReleaseParts,
  source: DockerReference,
  gearDigest: Digest,
  signal: AbortSignal,
): Promise<void> {
  const { client, store, log } = parts;
  const gear = gearDestination(source);
  if (gear.transport !== 'docker' || gear.tag === undefined) return;
  const name = formatReference(gear);
  // A registry deletes manifests, and with one all the tags that name it.
  const isShared = store
    .findImages(`sha256:${gearDigest}`)
    .some(({ record }) => record.gearDigest === gearDigest && record.destination !== name);
  if (isShared) return;
  try {
    const found = await client.head(gear, gear.tag, { signal });
    if (found === undefined || found === 'unchanged' || found.digest !== gearDigest) return;
    if (!(await client.deleteManifest(gear, gearDigest, { signal }))) {
      log.warn({ image: name }, 'the registry does not delete a Gear image whose source is gone');
    }
  } catch (error) {
    signal.throwIfAborted();
    if (!isGearError(error)) throw error;
    log.warn({ err: error, image: name }, 'a Gear image whose source is gone could not be deleted');
  }
}
