import type { Abortable } from '#core/abort.ts';
import type { Logger } from '#core/log.ts';
import type { Change } from '../archive/change.ts';
import { changes } from '../archive/changes.ts';
import { diffSize, tarOfChanges, tarOfTree } from '../archive/diff-tar.ts';
import type { Snapshots } from './snapshots.ts';

/** A layer and its parent, both to be seen, and the layer's own folder where only that has to be looked at. */
interface Comparison extends AsyncDisposable {
  readonly newRoot: string;
  readonly oldRoot: string | undefined;
  readonly guide: string | undefined;
}

/**
 * Mounts both sides of a comparison. The merged tree is what is compared, because an upper folder alone lies: a chmod of a lazy file leaves a
 * metadata-only copy in it, a rename of a directory an empty one.
 */
async function open(snapshots: Snapshots, id: string, parent: string): Promise<Comparison> {
  await using stack = new AsyncDisposableStack();
  const layer = snapshots.get(id);
  // A Gear layer's own content is its `.gear` files; what it looks like from above is its image's.
  const own = layer.image !== undefined && parent === '';
  const newRoot = own ? layer.diff : stack.use(await snapshots.view(id)).path;
  const oldRoot = parent === '' ? undefined : stack.use(await snapshots.view(parent)).path;
  const guide = parent !== '' && layer.parent === parent && layer.image === undefined ? layer.diff : undefined;
  const release = stack.move();
  return { newRoot, oldRoot, guide, [Symbol.asyncDispose]: () => release.disposeAsync() };
}

/** What distinguishes a layer from `parent` ('' for an empty tree), sorted by path. */
export async function compareLayers(
  snapshots: Snapshots,
  id: string,
  parent: string,
  { signal }: Abortable = {},
): Promise<Change[]> {
  await using sides = await open(snapshots, id, parent);
  return await changes(sides.newRoot, sides.oldRoot, { guide: sides.guide, signal });
}

/** The same as a layer tar. The layers stay mounted until the stream ends or is given up. */
export async function* diffLayers(
  snapshots: Snapshots,
  id: string,
  parent: string,
  { signal, log }: Abortable & { log?: Logger } = {},
): AsyncGenerator<Buffer> {
  await using sides = await open(snapshots, id, parent);
  const { newRoot, oldRoot, guide } = sides;
  if (oldRoot === undefined) yield* tarOfTree(newRoot, { signal, log });
  else yield* tarOfChanges(newRoot, await changes(newRoot, oldRoot, { guide, signal }), { signal, log });
}

/** Bytes of the regular files that a layer adds to or modifies in `parent`. */
export async function sizeOfDiff(
  snapshots: Snapshots,
  id: string,
  parent: string,
  { signal }: Abortable = {},
): Promise<number> {
  await using sides = await open(snapshots, id, parent);
  const found = await changes(sides.newRoot, sides.oldRoot, { guide: sides.guide, signal });
  return await diffSize(sides.newRoot, found, { signal });
}
