import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Abortable } from '#core/abort.ts';
import { DIGEST_BYTES, type Digest, digestFromBytes } from '#core/digest.ts';
import type { IndexStore } from './index-store.ts';
import type { Leases } from './leases.ts';
import { LiveSet } from './live-set.ts';
import type { ObjectStore } from './object-store.ts';

export interface Freed {
  readonly indexes: number;
  readonly objects: number;
  /** Of the objects. */
  readonly bytes: number;
}

/** Who needs what, as the catalogue knows it. */
export interface References {
  /** The indexes that images need. */
  neededIndexes(): Digest[];
  /** All indexes. */
  indexDigests(): Digest[];
  /** The digests of an index's objects, 32 bytes each. */
  objectDigests(index: Digest): Buffer;
  removeIndex(index: Digest): void;
  /** `objects`: at least as many as all indexes have. */
  totals(): { readonly objects: number };
}

export interface CollectionParts {
  readonly catalog: References;
  readonly indexes: IndexStore;
  readonly objects: ObjectStore;
  readonly leases: Leases;
}

const OBJECTS_PER_TURN = 500;

/**
 * Removes the indexes that no image needs, and then of the objects that only those had (or, if `everything`, of all objects in the store) those that no
 * index has any more. What was used since this began, or is under a lease or claim, stays: so whatever is registered meanwhile finds what it
 * found before. Only one may run at a time.
 */
export async function collectGarbage(
  { catalog, indexes, objects, leases }: CollectionParts,
  { everything, signal }: { readonly everything: boolean } & Abortable,
): Promise<Freed> {
  const atStart = leases.snapshot();
  const keeps = (usedAt: number) => atStart(usedAt) || leases.snapshot()(usedAt);

  const dead: Buffer[] = [];
  const needed = new Set(catalog.neededIndexes());
  for (const index of catalog.indexDigests()) {
    if (needed.has(index) || !indexes.remove(index, keeps)) continue;
    dead.push(catalog.objectDigests(index));
    catalog.removeIndex(index);
  }
  const live = await mark(catalog, signal);

  let removed = 0;
  let bytes = 0;
  let seen = 0;
  for await (const digest of everything ? all(objects, signal) : distinct(dead)) {
    signal?.throwIfAborted();
    if (++seen % OBJECTS_PER_TURN === 0) await nextTurn();
    if (live.has(digest)) continue;
    const size = await objects.remove(digest, keeps);
    if (size === undefined) continue;
    removed++;
    bytes += size;
  }
  return { indexes: dead.length, objects: removed, bytes };
}

async function mark(catalog: References, signal: AbortSignal | undefined): Promise<LiveSet> {
  const live = new LiveSet(catalog.totals().objects);
  for (const index of catalog.indexDigests()) {
    signal?.throwIfAborted();
    live.addAll(catalog.objectDigests(index));
    await nextTurn();
  }
  return live;
}

async function* all(objects: ObjectStore, signal: AbortSignal | undefined): AsyncGenerator<Digest, void, void> {
  for await (const { digest } of objects.list({ signal })) yield digest;
}

function* distinct(lists: readonly Buffer[]): Generator<Digest, void, void> {
  const seen = new Set<Digest>();
  for (const list of lists) {
    for (let at = 0; at < list.length; at += DIGEST_BYTES) {
      const digest = digestFromBytes(list.subarray(at, at + DIGEST_BYTES));
      if (!seen.has(digest)) yield digest;
      seen.add(digest);
    }
  }
}
