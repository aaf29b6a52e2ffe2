import type { Digest } from '#core/digest.ts';
import type { Platform } from '#core/platform.ts';

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
  /** What its conversion left out or changed, a sentence each. */
  readonly warnings: readonly string[];
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
