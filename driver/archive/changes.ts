import type { Abortable } from '#core/abort.ts';
import { GearError } from '#core/errors.ts';
import type { Change } from './change.ts';

export interface ChangesOptions extends Abortable {
  /** The overlay upper directory of a layer whose merged mount is `newRoot`: only what lies there is looked at; same answer. */
  readonly guide?: string | undefined;
}

/** What distinguishes the tree at `newRoot` from the one at `oldRoot` (undefined: an empty one), as Docker's archive.ChangesDirs, sorted by path. */
export async function changes(
  _newRoot: string,
  _oldRoot: string | undefined,
  _options: ChangesOptions = {},
): Promise<Change[]> {
  throw new GearError('unsupported', 'not there yet');
}
