import { GearError } from '#core/errors.ts';

/**
 * Errors with a meaning of their own to whoever picks a driver (Docker's ErrNotSupported, ErrPrerequisites, ErrIncompatibleFS),
 * and to whoever names a layer.
 */
export type DriverErrorReason =
  /** This driver does not work on this machine. */
  | 'not-supported'
  /** It would, but something is missing. */
  | 'prerequisites'
  /** It does not work on the filesystem that holds its folder. */
  | 'incompatible-filesystem'
  /** No driver has this name. */
  | 'unknown-driver'
  /** A call came before Init. */
  | 'not-initialized'
  | 'unknown-layer'
  | 'layer-exists'
  | 'invalid-id'
  /** A layer whose content came only in part. */
  | 'interrupted'
  /** A storage option or an id map that this driver does not take. */
  | 'invalid-option';

const CODES = {
  'not-supported': 'unsupported',
  prerequisites: 'failed-precondition',
  'incompatible-filesystem': 'failed-precondition',
  'unknown-driver': 'not-found',
  'not-initialized': 'failed-precondition',
  'unknown-layer': 'not-found',
  'layer-exists': 'already-exists',
  'invalid-id': 'invalid-argument',
  interrupted: 'failed-precondition',
  'invalid-option': 'invalid-argument',
} as const;

/** A GearError whose `reason` says which. */
export class DriverError extends GearError {
  readonly reason: DriverErrorReason;

  constructor(
    reason: DriverErrorReason,
    message: string,
    options: { cause?: unknown; fields?: GearError['fields'] } = {},
  ) {
    super(CODES[reason], message, options);
    this.reason = reason;
  }
}

export function isDriverErrorReason(text: string): text is DriverErrorReason {
  return Object.hasOwn(CODES, text);
}

/** Whether an error is a DriverError, for one of these reasons where some are given. */
export function isDriverError(error: unknown, ...reasons: DriverErrorReason[]): error is DriverError {
  return error instanceof DriverError && (reasons.length === 0 || reasons.includes(error.reason));
}

/** Whether to try the next driver rather than to give up (Docker's IsDriverNotSupported). */
export function isNotSupported(error: unknown): error is DriverError {
  return isDriverError(error, 'not-supported', 'prerequisites', 'incompatible-filesystem');
}

export function unknownLayer(id: string): DriverError {
  return new DriverError('unknown-layer', `no layer ${id} here`, { fields: { id } });
}

export function layerExists(id: string): DriverError {
  return new DriverError('layer-exists', `layer ${id} exists already`, { fields: { id } });
}
