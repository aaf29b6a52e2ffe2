import type { Digest } from '#core/digest.ts';
import type { ImageRecord, LayerRecord } from '../store/record.ts';

export type { Platform } from '#core/platform.ts';
export type { ImageRecord, LayerRecord } from '../store/record.ts';

/** Takes the objects of a conversion. Fits core/index/layer.ts's ObjectSink. */
export interface TargetObjects extends AsyncDisposable {
  /** Takes exactly `size` (more than 0) bytes; gives their digest and that of each chunk (empty for a single chunk). */
  add(content: AsyncIterable<Buffer>, size: number): Promise<{ digest: Digest; chunkDigests: Buffer }>;
  /** Makes everything added so far durable and visible. More may be added. */
  commit(): Promise<void>;
  /** Objects added so far that the target did not have, and their bytes. */
  readonly newObjects: number;
  readonly newBytes: number;
}

/**
 * Where a conversion's results go: this process's own store, or a manager elsewhere. The order of the calls is objects of a layer
 * (committed), the layer's index, the image's index, the image's record; so whatever is interrupted, a record never names what is missing.
 */
export interface ConversionTarget {
  /** Bytes in a chunk of this target's indexes. */
  readonly chunkSize: number;
  /** The record of the source manifest with this digest. */
  findImage(sourceDigest: Digest, options: { signal: AbortSignal }): Promise<ImageRecord | undefined>;
  /** The record of the image that was converted from this source, in skopeo's words. */
  findSource(source: string, options: { signal: AbortSignal }): Promise<ImageRecord | undefined>;
  /** The record of a layer, by the digest of its uncompressed tar. */
  findLayer(diffId: Digest, options: { signal: AbortSignal }): Promise<LayerRecord | undefined>;
  /** The encoded index of this digest. Throws not-found. */
  readIndex(digest: Digest, options: { signal: AbortSignal }): Promise<Buffer>;
  /**
   * Opens the place for a conversion's objects; it stays open until the record is put, so that nothing is collected before it is used. Disposed without commit
   * it leaves nothing that counts.
   */
  openObjects(options: { signal: AbortSignal }): Promise<TargetObjects>;
  /** Stores an encoded index, whose objects must be there. */
  putIndex(bytes: Buffer, options: { signal: AbortSignal }): Promise<Digest>;
  /** Registers the image. Comes last. */
  putImage(image: ImageRecord, options: { signal: AbortSignal }): Promise<ImageRecord>;
}
