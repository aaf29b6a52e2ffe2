import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** A conversion's own temporary folders; disposing it removes them and all that is in them. */
export interface Scratch extends AsyncDisposable {
  /** Blobs of the source. */
  readonly blobs: string;
  /** What skopeo, or an upload, keeps for a moment. */
  readonly temporary: string;
  /** Not made yet: the layout of the image that is to be published. */
  readonly layout: string;
}

/** Makes them below `parent`, which is made where it is missing. */
export async function openScratch(parent: string): Promise<Scratch> {
  await mkdir(parent, { recursive: true });
  const root = await mkdtemp(join(parent, 'convert-'));
  const remove = async () => await rm(root, { recursive: true, force: true, maxRetries: 3 });
  const scratch = { blobs: join(root, 'blobs'), temporary: join(root, 'tmp'), layout: join(root, 'layout') };
  try {
    await mkdir(scratch.blobs);
    await mkdir(scratch.temporary);
  } catch (error) {
    await remove();
    throw error;
  }
  return { ...scratch, [Symbol.asyncDispose]: remove };
}
