import type { Abortable } from '#core/abort.ts';
import { DIGEST_BYTES, type Digest, digestFromBytes, Hasher, ociDigest } from '#core/digest.ts';
import { isGearError, messageOf } from '#core/errors.ts';
import type { IndexStore } from '../store/index-store.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { Catalog } from './catalog.ts';

export interface Verified {
  readonly objects: number;
  readonly bytes: number;
  readonly indexes: number;
  /** What was damaged (and is removed now) or missing, a sentence each. */
  readonly problems: readonly string[];
  /** Sources of the images that lack something now; converting them again, with --force, makes them whole. */
  readonly images: readonly string[];
}

export interface VerifyParts {
  readonly catalog: Catalog;
  readonly indexes: IndexStore;
  readonly objects: ObjectStore;
}

const keepsNothing = () => false;

/** Reads everything in the store and compares it with its digest. What is damaged is removed, so that it can be stored again. */
export async function verifyContents(parts: VerifyParts, { signal }: Abortable): Promise<Verified> {
  const problems: string[] = [];
  const present = new Set<Digest>();
  let bytes = 0;
  for await (const { digest, size } of parts.objects.list({ signal })) {
    const problem = await examine(parts.objects, digest, signal);
    if (problem === undefined) {
      present.add(digest);
      bytes += size;
    } else {
      problems.push(`object ${ociDigest(digest)}: ${problem}; removed`);
      await parts.objects.remove(digest, keepsNothing);
    }
  }
  const broken = new Set<Digest>();
  const indexes = parts.indexes.list();
  for (const digest of indexes) {
    signal?.throwIfAborted();
    if (await isDamaged(parts.indexes, digest)) {
      problems.push(`index ${ociDigest(digest)}: its bytes are others; removed`);
      parts.indexes.remove(digest, keepsNothing);
      parts.catalog.removeIndex(digest);
      broken.add(digest);
      continue;
    }
    const lacking = absent(parts.catalog.objectDigests(digest), present);
    if (lacking.length === 0) continue;
    const [first] = lacking as [Digest];
    problems.push(`index ${ociDigest(digest)}: ${lacking.length} of its objects are missing, e.g. ${ociDigest(first)}`);
    broken.add(digest);
  }
  return { objects: present.size, bytes, indexes: indexes.length, problems, images: imagesWith(parts.catalog, broken) };
}

/** What is wrong with an object, if anything. */
async function examine(
  objects: ObjectStore,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const hasher = new Hasher();
  try {
    for await (const piece of objects.read(digest, { signal })) hasher.update(piece);
  } catch (error) {
    signal?.throwIfAborted();
    return `it cannot be read (${messageOf(error)})`;
  }
  const found = hasher.digest();
  return found === digest ? undefined : `its bytes are those of ${ociDigest(found)}`;
}

async function isDamaged(indexes: IndexStore, digest: Digest): Promise<boolean> {
  try {
    await indexes.read(digest);
    return false;
  } catch (error) {
    if (isGearError(error, 'corrupt')) return true;
    throw error;
  }
}

function absent(digests: Buffer, present: ReadonlySet<Digest>): Digest[] {
  const lacking: Digest[] = [];
  for (let at = 0; at < digests.length; at += DIGEST_BYTES) {
    const digest = digestFromBytes(digests.subarray(at, at + DIGEST_BYTES));
    if (!present.has(digest)) lacking.push(digest);
  }
  return lacking;
}

function imagesWith(catalog: Catalog, broken: ReadonlySet<Digest>): string[] {
  const sources = catalog
    .allImages()
    .filter(({ record }) =>
      [record.indexDigest, ...record.layers.map((layer) => layer.indexDigest)].some((index) => broken.has(index)),
    )
    .map(({ record }) => record.source);
  return [...new Set(sources)];
}
