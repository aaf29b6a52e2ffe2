import type { ImageView } from '../images/image-store.ts';
import type { Layer } from './layer.ts';

/** What to mount for a layer. */
export type MountPlan =
  /** One folder is all there is: nothing needs to be mounted. */
  | { readonly kind: 'folder'; readonly path: string }
  | {
      readonly kind: 'overlay';
      /** From the top down. */
      readonly lower: readonly string[];
      /** Data-only lower layers, behind all the others. Where there are any, chmod and rename of lower files stay metadata. */
      readonly data: readonly string[];
      /** Left out: the mount is read-only. */
      readonly upper?: { readonly upper: string; readonly work: string };
    };

/** What a layer looks like from above: a Gear layer is its image, any other its own folder. */
export interface ChainLink {
  readonly layer: Layer;
  readonly view: ImageView | undefined;
}

/**
 * Calculates the mount of a chain, which starts with the layer itself and ends with its last ancestor.
 *
 * `writable`: the layer as itself, its own folder on top and written to; a Gear layer then shows its `.gear` files over its image, for the engine
 * reads a layer's own files back from there when it pushes it. Otherwise: the layer as whoever stands on it sees it.
 *
 * Without a Gear layer in the chain the mount is what overlay2 makes: no layer in it ever holds a metadata-only copy. With one, every mount of
 * that chain follows them, so they may also lie in the layers between.
 */
export function planMount(chain: readonly [ChainLink, ...ChainLink[]], { writable }: { writable: boolean }): MountPlan {
  const [top, ...ancestors] = chain;
  const seen = writable ? (top.view === undefined ? ancestors : chain) : chain;
  const lower = seen.map(({ layer, view }) => view?.lower ?? layer.diff);
  const data = [...new Set(seen.flatMap(({ view }) => view?.data ?? []))];
  if (writable) {
    if (lower.length === 0) return { kind: 'folder', path: top.layer.diff };
    return { kind: 'overlay', lower, data, upper: { upper: top.layer.diff, work: top.layer.work } };
  }
  const [only] = lower;
  if (lower.length === 1 && data.length === 0 && only !== undefined) return { kind: 'folder', path: only };
  return { kind: 'overlay', lower, data };
}
