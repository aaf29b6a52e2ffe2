import type { Digest } from '#core/digest.ts';
import { type ByteString, type RegularFile, type Tree, walk } from '#core/index/tree.ts';
import { itemKey, Profile, type ProfileItem } from './profile.ts';

function filesOf(tree: Tree): { byPath: Map<ByteString, RegularFile>; byDigest: Map<Digest, RegularFile> } {
  const byPath = new Map<ByteString, RegularFile>();
  const byDigest = new Map<Digest, RegularFile>();
  for (const { path, inode } of walk(tree.root)) {
    if (inode.type !== 'file' || inode.digest === undefined) continue;
    byPath.set(path, inode);
    if (!byDigest.has(inode.digest)) byDigest.set(inode.digest, inode);
  }
  return { byPath, byDigest };
}

function bytesOf({ size }: RegularFile, chunk: number, chunkSize: number): number {
  return Math.min(chunkSize, size - chunk * chunkSize);
}

/**
 * The profile that an image starts with: that of an older version of it, as far as it applies. What is in both keeps its place; of a file that has another
 * content now the same chunks are taken. Counts as a single run, so that two of its own correct it. Undefined where nothing applies.
 */
export function inheritProfile(
  from: Profile,
  before: Tree,
  image: Digest,
  after: Tree,
  now = Date.now(),
): Profile | undefined {
  if (before.chunkSize !== after.chunkSize || from.chunkSize !== after.chunkSize) return undefined;
  const old = new Map<Digest, ByteString[]>();
  for (const [path, { digest }] of filesOf(before).byPath) {
    if (digest !== undefined) old.getOrInsertComputed(digest, () => []).push(path);
  }
  const { byPath, byDigest } = filesOf(after);
  const items = new Map<string, ProfileItem>();
  for (const { digest, chunk, milliseconds } of from.chosen()) {
    const same = byDigest.get(digest);
    const files = same === undefined ? (old.get(digest) ?? []).flatMap((path) => byPath.get(path) ?? []) : [same];
    for (const file of files) {
      if (file.digest === undefined || chunk * after.chunkSize >= file.size) continue;
      const bytes = bytesOf(file, chunk, after.chunkSize);
      const item = { digest: file.digest, chunk, bytes, seen: 1, skipped: 0, milliseconds };
      items.set(itemKey(item), item);
    }
  }
  if (items.size === 0) return undefined;
  const facts = { image, chunkSize: after.chunkSize, runs: 1, inheritedFrom: from.image, updatedAt: now };
  return new Profile(facts, items.values());
}
