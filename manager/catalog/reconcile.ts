import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Digest } from '#core/digest.ts';
import { decodeIndex } from '#core/index/encode.ts';
import { objectsOf, summarize } from '#core/index/objects.ts';
import type { Logger } from '#core/log.ts';
import type { ImageStore } from '../store/image-store.ts';
import type { IndexStore } from '../store/index-store.ts';
import type { Catalog, IndexFacts } from './catalog.ts';

export interface Reconciled {
  readonly images: number;
  readonly indexes: number;
  /** What could not be read, and is not in the catalogue therefore. */
  readonly unreadable: readonly string[];
}

/** What the catalogue keeps of an index. Throws what decodeIndex throws. */
export function factsOf(digest: Digest, bytes: Uint8Array): IndexFacts {
  const tree = decodeIndex(bytes);
  return { digest, size: bytes.length, kind: tree.kind, entries: summarize(tree).entries, objects: objectsOf(tree) };
}

/**
 * Makes the catalogue say what images/ and indexes/ say: adds what it lacks, removes what is not there. On an empty catalogue this is the
 * whole rebuilding. Gives how many of each there are then.
 */
export async function reconcile(
  {
    catalog,
    images,
    indexes,
  }: { readonly catalog: Catalog; readonly images: ImageStore; readonly indexes: IndexStore },
  log: Logger,
): Promise<Reconciled> {
  const unreadable: string[] = [];
  const attempt = async (what: string, work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      unreadable.push(what);
      log.error({ err: error }, `${what} cannot be read; nothing is collected until it is gone or whole again`);
    }
  };

  const indexFiles = new Set(indexes.list());
  for (const digest of catalog.indexDigests()) if (!indexFiles.has(digest)) catalog.removeIndex(digest);
  for (const digest of indexFiles) {
    if (catalog.hasIndex(digest)) continue;
    await attempt(`index ${digest}`, async () => catalog.putIndex(factsOf(digest, await indexes.read(digest))));
    await nextTurn();
  }

  const imageFiles = new Set(await images.list());
  const known = new Set(catalog.imageIds());
  catalog.removeImages([...known].filter((id) => !imageFiles.has(id)));
  for (const id of imageFiles) {
    if (known.has(id)) continue;
    await attempt(`image ${id}`, async () => catalog.putImage(id, await images.read(id)));
  }
  const totals = catalog.totals();
  return { images: totals.images, indexes: totals.indexes, unreadable };
}
