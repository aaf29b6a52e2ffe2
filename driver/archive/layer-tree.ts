import { GearError } from '#core/errors.ts';
import type { ByteString } from '#core/index/tree.ts';
import { showPath } from '#core/tar/path.ts';

/** A directory that a layer brings, or in which it brings something. */
export interface DirectoryNode {
  readonly kind: 'directory';
  readonly children: Map<ByteString, LayerNode>;
  /** Names that the layer deletes from the layers below. */
  readonly whiteouts: Set<ByteString>;
  /** What the layers below have in it is hidden. */
  opaque: boolean;
  /** It was empty when this layer came to it, so `children` is all that it holds. */
  readonly fresh: boolean;
  /** The layer names only something below it. */
  implied: boolean;
  /** To be set when everything else is done; undefined: left alone. */
  times: { readonly seconds: number; readonly nanoseconds: number } | undefined;
}

/** A hard link whose target has not come yet. */
export interface PendingLink {
  readonly kind: 'link';
  readonly path: readonly ByteString[];
  readonly target: readonly ByteString[];
}

/** What a layer brings under one name. */
export type LayerNode = DirectoryNode | PendingLink | { readonly kind: 'other' };

export const OTHER: LayerNode = Object.freeze({ kind: 'other' });

export function directoryNode(fields: Pick<DirectoryNode, 'fresh' | 'implied' | 'times'>): DirectoryNode {
  return { kind: 'directory', children: new Map(), whiteouts: new Set(), opaque: false, ...fields };
}

/** What the layer brings at a path; undefined where it brings nothing. */
export function findNode(root: DirectoryNode, path: readonly ByteString[]): LayerNode | undefined {
  let node: LayerNode | undefined = root;
  for (const name of path) {
    if (node?.kind !== 'directory') return undefined;
    node = node.children.get(name);
  }
  return node;
}

/** Drops the whiteouts of names that the layer itself has, whichever came first. */
export function settleWhiteouts(node: DirectoryNode): void {
  for (const name of node.whiteouts) if (node.children.has(name)) node.whiteouts.delete(name);
}

export function refused(path: readonly ByteString[], problem: string): GearError {
  return new GearError('invalid-argument', `the layer's entry ${showPath(path.join('/'))} is refused: ${problem}`);
}
