import type { Digest } from '#core/digest.ts';
import { isGearError } from '#core/errors.ts';
import type { ImageStore } from '../images/image-store.ts';
import type { Layer } from '../snapshots/layer.ts';
import type { Snapshots } from '../snapshots/snapshots.ts';
import type { Usage } from './metadata.ts';

/**
 * What a lazy layer takes on this node besides its own folder: its compiled index, and, on the highest lazy layer of an image, what the containers
 * on it have touched so far.
 */
export async function lazyUsage(layer: Layer, snapshots: Snapshots, images: ImageStore): Promise<Usage> {
  if (layer.image === undefined) return { size: 0, inodes: 0 };
  const used = [layer.image];
  const union = snapshots.unionOf(layer.id);
  if (union !== undefined && images.find(union) !== undefined) {
    if ((await usersOf(union, images)).includes(layer.folder)) used.push(union);
  }
  let [size, inodes] = [0, 0];
  for (const image of used) {
    const taken = await images.usage(image);
    size += taken.size;
    inodes += taken.inodes;
  }
  return { size, inodes };
}

/** None where the image went meanwhile. */
async function usersOf(image: Digest, images: ImageStore): Promise<string[]> {
  try {
    return await images.users(image);
  } catch (error) {
    if (isGearError(error, 'not-found')) return [];
    throw error;
  }
}
