import { type Digest, ociDigest } from '#core/digest.ts';
import { isGearError } from '#core/errors.ts';
import { DEFAULT_CHUNK_SIZE } from '#core/index/tree.ts';
import type { Store } from '../store/store.ts';
import type { ConversionTarget, ImageRecord, LayerRecord, TargetObjects } from './target.ts';

interface Signalled {
  readonly signal: AbortSignal;
}

function orUndefined<T>(find: () => T): T | undefined {
  try {
    return find();
  } catch (error) {
    if (isGearError(error, 'not-found')) return undefined;
    throw error;
  }
}

/** This process's own store as the target of a conversion. */
export class LocalTarget implements ConversionTarget {
  readonly chunkSize = DEFAULT_CHUNK_SIZE;
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  async findImage(sourceDigest: Digest): Promise<ImageRecord | undefined> {
    const record = orUndefined(() => this.#store.resolve(ociDigest(sourceDigest)));
    return record?.sourceDigest === sourceDigest ? record : undefined;
  }

  async findSource(source: string): Promise<ImageRecord | undefined> {
    const record = orUndefined(() => this.#store.resolve(source));
    return record?.source === source ? record : undefined;
  }

  async findLayer(diffId: Digest): Promise<LayerRecord | undefined> {
    const record = orUndefined(() => this.#store.resolveLayer(diffId));
    return record?.diffId === diffId ? record : undefined;
  }

  async readIndex(digest: Digest): Promise<Buffer> {
    return await this.#store.indexes.read(digest);
  }

  async openObjects(): Promise<TargetObjects> {
    return this.#store.objects.batch({ chunkSize: this.chunkSize });
  }

  async putIndex(bytes: Buffer, { signal }: Signalled): Promise<Digest> {
    return await this.#store.putIndex(bytes, { signal });
  }

  async putImage(image: ImageRecord): Promise<ImageRecord> {
    return await this.#store.putImage(image);
  }
}
