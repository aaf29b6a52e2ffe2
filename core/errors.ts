/** What went wrong, in the words of gRPC's status codes, so that an error keeps its meaning across the wire. */
export type ErrorCode =
  | 'cancelled'
  | 'invalid-argument'
  | 'deadline-exceeded'
  | 'not-found'
  | 'already-exists'
  | 'permission-denied'
  | 'resource-exhausted'
  | 'failed-precondition'
  | 'aborted'
  | 'out-of-range'
  | 'unsupported'
  | 'internal'
  | 'unavailable'
  | 'corrupt'
  | 'unauthenticated';

/** Facts about an error that a caller or a log line may want: ids, paths, digests, sizes. */
export type ErrorFields = Readonly<Record<string, string | number | bigint | boolean | undefined>>;

/**
 * The one error class of Gear: compare `code`, never the message. The message names the thing (id, path, digest) and, where
 * the user can do something, what to do.
 */
export class GearError extends Error {
  override readonly name = 'GearError';
  readonly code: ErrorCode;
  readonly fields: ErrorFields;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; fields?: ErrorFields } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.fields = options.fields ?? {};
  }
}

/** Whether an error is a GearError, of one of these codes where some are given. */
export function isGearError(error: unknown, ...codes: ErrorCode[]): error is GearError {
  return error instanceof GearError && (codes.length === 0 || codes.includes(error.code));
}

/** Whether an error is a system error with one of these names ("ENOENT"). */
export function isErrno(error: unknown, ...names: string[]): error is NodeJS.ErrnoException {
  return error instanceof Error && names.includes(String((error as NodeJS.ErrnoException).code));
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Waits for `promise`; gives undefined when it fails with one of these errno names. */
export async function orUndefined<T>(promise: Promise<T>, ...names: string[]): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (isErrno(error, ...names)) return undefined;
    throw error;
  }
}
