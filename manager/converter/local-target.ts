import { isGearError } from '#core/errors.ts';
import { DEFAULT_CHUNK_SIZE } from '#core/index/tree.ts';
import type { Store } from '../catalog/store.ts';
import type { ConversionTarget } from './target.ts';

/** This process's own store as the place where a conversion's results go. Until it is disposed, nothing that the conversion finds is collected. */
export function openConversionTarget(store: Store): ConversionTarget & Disposable {
  const lease = store.openLease();
  return {
    chunkSize: DEFAULT_CHUNK_SIZE,
    findImage: async (sourceDigest) => {
      const record = find(() => store.resolve(sourceDigest));
      // By the digest of a manifest one also finds a Gear image; that is another question.
      if (record?.sourceDigest !== sourceDigest) return undefined;
      const needed = [record.indexDigest, ...record.layers.map((layer) => layer.indexDigest)];
      return needed.every((index) => store.useIndex(index, lease)) ? record : undefined;
    },
    findSource: async (source) => {
      const record = find(() => store.resolve(source));
      return record?.source === source && store.useIndex(record.indexDigest, lease) ? record : undefined;
    },
    findLayer: async (diffId) => {
      const layer = find(() => store.resolveLayer(diffId));
      return layer?.diffId === diffId ? layer : undefined;
    },
    readIndex: async (digest) => {
      store.useIndex(digest, lease);
      return await store.indexes.read(digest);
    },
    openObjects: async () => store.objects.batch({ chunkSize: DEFAULT_CHUNK_SIZE }),
    putIndex: async (bytes, { signal }) => await store.putIndex(bytes, { signal }),
    putImage: async (record) => await store.putImage(record),
    [Symbol.dispose]: () => lease[Symbol.dispose](),
  };
}

function find<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (isGearError(error, 'not-found')) return undefined;
    throw error;
  }
}
