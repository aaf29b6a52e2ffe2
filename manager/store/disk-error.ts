import { GearError, isErrno, messageOf } from '#core/errors.ts';

/** The error of a full disk as resource-exhausted, naming what could not be written; any other as it is. */
export function diskError(error: unknown, path: string): unknown {
  if (!isErrno(error, 'ENOSPC', 'EDQUOT')) return error;
  return new GearError(
    'resource-exhausted',
    `the disk is full: ${path} (${messageOf(error)}); free space or enlarge the store`,
    {
      cause: error,
      fields: { path },
    },
  );
}
