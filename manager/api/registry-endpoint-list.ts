import { type Digest, ociDigest } from '#core/digest.ts';
import type { Manifest } from '../registry/client.ts';
import { MEDIA } from '../registry/manifest.ts';

interface Entry {
  readonly digest?: unknown;
  readonly platform?: { readonly os?: unknown };
}

/**
 * A multi-arch list that offers `gear` where `original` has the image `replaced`, and the originals for all other platforms: so a node of another platform
 * still gets what it can run. Attestations are left out, as they speak of manifests by digest. The same for the same input.
 */
export function listWith(original: Uint8Array, replaced: Digest, gear: Manifest): Buffer {
  const { manifests } = JSON.parse(Buffer.from(original).toString('utf8')) as { manifests: readonly Entry[] };
  const entries = manifests
    .filter(({ platform }) => platform?.os !== 'unknown')
    .map((entry) => {
      if (entry.digest !== ociDigest(replaced)) return entry;
      const { mediaType, digest, bytes } = gear;
      const platform = entry.platform === undefined ? {} : { platform: entry.platform };
      return { mediaType, digest: ociDigest(digest), size: bytes.length, ...platform };
    });
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: entries }));
}
