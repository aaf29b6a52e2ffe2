import type { Abortable } from '#core/abort.ts';
import { GearError } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { Change } from './change.ts';

export interface TarOptions extends Abortable {
  /** For files that change while they are read. */
  readonly log?: Logger | undefined;
}

/** The changes as a layer tar; contents come from `newRoot`. */
export async function* tarOfChanges(
  _newRoot: string,
  _changes: readonly Change[],
  _options: TarOptions = {},
): AsyncGenerator<Buffer> {
  yield await Promise.reject(new GearError('unsupported', 'not there yet'));
}

/** The whole tree at `root` as a layer tar, without an entry for the root. */
export async function* tarOfTree(root: string, options: TarOptions = {}): AsyncGenerator<Buffer> {
  yield* tarOfChanges(root, [], options);
}

/** Bytes of the regular files among the changes, each inode counted once. */
export async function diffSize(
  _newRoot: string,
  _changes: readonly Change[],
  _options: Abortable = {},
): Promise<number> {
  throw new GearError('unsupported', 'not there yet');
}
