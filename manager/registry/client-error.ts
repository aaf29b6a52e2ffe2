import { type ErrorCode, GearError } from '#core/errors.ts';

const CODES: Readonly<Record<number, ErrorCode>> = {
  401: 'unauthenticated',
  403: 'permission-denied',
  404: 'not-found',
  405: 'unsupported',
  408: 'unavailable',
  429: 'resource-exhausted',
  501: 'unsupported',
};

const ADVICE: Partial<Record<ErrorCode, string>> = {
  unauthenticated: '; log in with "skopeo login" or give an auth file with --authfile',
};

/** What a registry says in its error body (OCI distribution specification, "Error Codes"), shortened. */
function detailOf(body: Uint8Array): string {
  try {
    const { errors } = JSON.parse(Buffer.from(body).toString('utf8')) as { errors?: unknown };
    const [first] = Array.isArray(errors) ? (errors as { code?: unknown; message?: unknown }[]) : [];
    const parts = [first?.code, first?.message].filter((part) => typeof part === 'string' && part !== '');
    return parts.length === 0 ? '' : ` (${parts.join(': ').slice(0, 300)})`;
  } catch {
    return '';
  }
}

/** The error that an answer with this status is. */
export function statusError(
  { host, repository }: { readonly host: string; readonly repository: string },
  status: number,
  body: Uint8Array = Buffer.alloc(0),
): GearError {
  const code: ErrorCode = CODES[status] ?? (status >= 500 ? 'unavailable' : 'corrupt');
  const name = repository === '' ? host : `${host}/${repository}`;
  return new GearError(code, `${name}: the registry answered ${status}${detailOf(body)}${ADVICE[code] ?? ''}`);
}
