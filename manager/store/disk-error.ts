import { GearError, isErrno, messageOf } from '#core/errors.ts';

/** sqlite.org/rescode.html */
const SQLITE_FULL = 13;

/** The error of a full disk as resource-exhausted, naming what could not be written; any other as it is. */
export function diskError(error: unknown, path: string): unknown {
  const isFull = isErrno(error, 'ENOSPC', 'EDQUOT') || (error as { errcode?: unknown }).errcode === SQLITE_FULL;
  if (!isFull) return error;
  return new GearError(
    'resource-exhausted',
    `the disk is full: ${path} (${messageOf(error)}); free space or enlarge the store`,
    {
      cause: error,
      fields: { path },
    },
  );
}
