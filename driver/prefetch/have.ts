import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestToBytes, isDigest } from '#core/digest.ts';
import { orUndefined } from '#core/errors.ts';
import type { PartialObject } from '#proto/gen/gear/v1/objects.ts';
import type { CacheLayout } from '../cache/layout.ts';
import type { ObjectCache } from '../cache/object-cache.ts';
import type { PrefetchImage } from './prefetch-image.ts';

const PREFIX_BYTES = 4;

async function namesIn(folder: string): Promise<string[]> {
  return (await orUndefined(readdir(folder), 'ENOENT', 'ENOTDIR')) ?? [];
}

/** What of an image is on this node, as PrefetchStart in objects.proto says it. */
export async function haveOf(
  image: PrefetchImage,
  cache: ObjectCache,
  layout: CacheLayout,
): Promise<{ have: Buffer; partial: PartialObject[] }> {
  const { table } = image;
  const found: number[] = [];
  for (const prefix of await namesIn(layout.paths.public)) {
    for (const rest of await namesIn(join(layout.paths.public, prefix))) {
      const digest = prefix + rest;
      if (isDigest(digest) && table.find(digest) !== undefined)
        found.push(Number.parseInt(digest.slice(0, 2 * PREFIX_BYTES), 16));
    }
  }
  found.sort((a, b) => a - b);
  const have = Buffer.alloc(found.length * PREFIX_BYTES);
  for (const [i, prefix] of found.entries()) have.writeUInt32BE(prefix, i * PREFIX_BYTES);
  const partial: PartialObject[] = [];
  for (const name of await namesIn(layout.partial)) {
    const digest = name.endsWith('.map') ? name.slice(0, 64) : '';
    const row = isDigest(digest) ? table.find(digest) : undefined;
    const chunks = row === undefined ? undefined : cache.chunksHere(image.object(row));
    if (chunks !== undefined) partial.push({ digest: digestToBytes(digest as Digest), chunks });
  }
  return { have, partial };
}
