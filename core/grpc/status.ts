import { type ServiceError, status } from '@grpc/grpc-js';
import { type ErrorCode, GearError, isErrno, isGearError, messageOf } from '../errors.ts';

const TO_STATUS: Record<ErrorCode, status> = {
  cancelled: status.CANCELLED,
  'invalid-argument': status.INVALID_ARGUMENT,
  'deadline-exceeded': status.DEADLINE_EXCEEDED,
  'not-found': status.NOT_FOUND,
  'already-exists': status.ALREADY_EXISTS,
  'permission-denied': status.PERMISSION_DENIED,
  'resource-exhausted': status.RESOURCE_EXHAUSTED,
  'failed-precondition': status.FAILED_PRECONDITION,
  aborted: status.ABORTED,
  'out-of-range': status.OUT_OF_RANGE,
  unsupported: status.UNIMPLEMENTED,
  internal: status.INTERNAL,
  unavailable: status.UNAVAILABLE,
  corrupt: status.DATA_LOSS,
  unauthenticated: status.UNAUTHENTICATED,
};

const FROM_STATUS = new Map<number, ErrorCode>(
  Object.entries(TO_STATUS).map(([code, value]) => [value, code as ErrorCode]),
);

/** The gRPC status code and message for anything that was thrown. */
export function toStatus(error: unknown): { code: status; details: string } {
  if (isGearError(error)) return { code: TO_STATUS[error.code], details: error.message };
  if (isErrno(error, 'ENOSPC', 'EDQUOT')) return { code: status.RESOURCE_EXHAUSTED, details: messageOf(error) };
  if (error instanceof Error && error.name === 'AbortError') return { code: status.CANCELLED, details: error.message };
  return { code: status.INTERNAL, details: messageOf(error) };
}

/** The error code for a gRPC status code; "internal" for one that has no meaning here. */
export function codeOfStatus(code: number): ErrorCode {
  return FROM_STATUS.get(code) ?? 'internal';
}

/** A GearError from what a gRPC client reports; `what` names the call and its peer, `why` stands for grpc-js's own words. */
export function fromServiceError(error: ServiceError, what: string, why?: string): GearError {
  return new GearError(codeOfStatus(error.code), `${what}: ${why ?? (error.details || error.message)}`, {
    cause: error,
  });
}
