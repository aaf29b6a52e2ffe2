import type { ByteString } from '#core/index/tree.ts';

/** Docker's numbers (pkg/archive, ChangeType). */
export const CHANGE_MODIFIED = 0;
export const CHANGE_ADDED = 1;
export const CHANGE_DELETED = 2;
export type ChangeKind = typeof CHANGE_MODIFIED | typeof CHANGE_ADDED | typeof CHANGE_DELETED;

/** One path that differs from the tree below. */
export interface Change {
  /** Raw bytes, with a slash in front: "/etc/hosts". */
  readonly path: ByteString;
  readonly kind: ChangeKind;
}
