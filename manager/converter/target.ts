import type { Digest } from '#core/digest.ts';
import type { Platform } from '../registry/platform.ts';

export type { Platform } from '../registry/platform.ts';

/** What is kept of one layer that was converted. Sizes in bytes. */
export interface LayerRecord {
  /** Of the blob as the registry has it. */
  readonly blobDigest: Digest;
  /** Of the uncompressed tar. */
  readonly diffId: Digest;
  /** Of the layer's own index. */
  readonly indexDigest: Digest;
  readonly blobSize: number;
  readonly tarSize: number;
  /** It has hard links to names of the layers below: its index holds only above these very layers. */
  readonly linkedBelow: boolean;
}

/** What is kept of one image that was converted. Sizes in bytes. See `Image` in images.proto for the same thing on the wire. */
export interface ImageRecord {
  /** In skopeo's words, as given. */
  readonly source: string;
  /** In skopeo's words; empty when the Gear image was written nowhere. */
  readonly destination: string;
  /** Of the source's manifest for `platform`. */
  readonly sourceDigest: Digest;
  /** Of the Gear image's manifest; undefined when it was written nowhere. */
  readonly gearDigest: Digest | undefined;
  readonly platform: Platform;
  /** Of the flattened index. */
  readonly indexDigest: Digest;
  readonly indexSize: number;
  /** From the lowest layer up. */
  readonly layers: readonly LayerRecord[];
  /** Distinct objects, and their bytes. */
  readonly objects: number;
  readonly objectBytes: number;
  /** Bytes of the regular files, each inode counted once. */
  readonly fileBytes: number;
  /** Names in the tree. */
  readonly entries: number;
  /** The source's config, verbatim. */
  readonly config: Buffer;
  readonly configMediaType: string;
  /** Milliseconds since 1970. */
  readonly convertedAt: number;
  /** What the conversion left out or changed, a sentence each. */
  readonly warnings: readonly string[];
}

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
