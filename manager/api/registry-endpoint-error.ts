import { type ErrorCode, GearError, messageOf } from '#core/errors.ts';

/** What was asked for: says by which name a registry calls its absence. */
export type Subject = 'manifest' | 'blob' | 'name';

const UNKNOWN: Readonly<Record<Subject, string>> = {
  manifest: 'MANIFEST_UNKNOWN',
  blob: 'BLOB_UNKNOWN',
  name: 'NAME_UNKNOWN',
};

/** Codes of the OCI distribution specification ("Error Codes"), and the status that goes with them. */
const ANSWERS: Partial<Record<ErrorCode, readonly [status: number, code: string]>> = {
  'permission-denied': [403, 'DENIED'],
  // Our own credentials did not do; those of the client would not help.
  unauthenticated: [403, 'DENIED'],
  'resource-exhausted': [429, 'TOOMANYREQUESTS'],
  unsupported: [405, 'UNSUPPORTED'],
  'deadline-exceeded': [504, 'UNKNOWN'],
  unavailable: [503, 'UNKNOWN'],
  corrupt: [502, 'UNKNOWN'],
};

export interface ErrorAnswer {
  readonly status: number;
  readonly body: { readonly errors: readonly [{ readonly code: string; readonly message: string }] };
}

/** The answer with a code of the specification. */
export function errorAnswer(status: number, code: string, message: string): ErrorAnswer {
  return { status, body: { errors: [{ code, message }] } };
}

/** How a registry says that error. */
export function toErrorAnswer(error: unknown, subject: Subject): ErrorAnswer {
  if (!(error instanceof GearError))
    return errorAnswer(500, 'UNKNOWN', 'an internal error; see the log of the manager');
  const message = messageOf(error);
  if (error.code === 'not-found') return errorAnswer(404, UNKNOWN[subject], message);
  if (error.code === 'invalid-argument') {
    const code = subject === 'name' ? 'NAME_INVALID' : subject === 'blob' ? 'DIGEST_INVALID' : 'MANIFEST_INVALID';
    return errorAnswer(400, code, message);
  }
  const [status, code] = ANSWERS[error.code] ?? [500, 'UNKNOWN'];
  return errorAnswer(status, code, message);
}
