import { type ErrorCode, GearError } from '#core/errors.ts';

/** What skopeo says when it fails, and what that means. The first that fits counts, so the particular come before the general. */
const MEANINGS: readonly (readonly [pattern: RegExp, code: ErrorCode, advice?: string])[] = [
  [/policy\.json/i, 'failed-precondition', "skopeo needs a policy: install Debian's golang-github-containers-common"],
  [/digest did not match|unexpected EOF|expected \S+ bytes|does not match (provided manifest )?digest/i, 'corrupt'],
  // A registry, or what stands before it, that answers nonsense: it may be well again later.
  [/invalid character .* looking for|unexpected end of JSON|malformed HTTP/i, 'corrupt'],
  [/no space left on device|disk quota exceeded/i, 'resource-exhausted'],
  [
    /server gave HTTP response to HTTPS client/i,
    'unavailable',
    'the registry speaks http: name it with --insecure-registry',
  ],
  [
    /x509: |certificate signed by unknown authority|tls: /i,
    'unavailable',
    'its certificate is not trusted: install the CA, or name it with --insecure-registry',
  ],
  [
    /unauthorized|authentication required|no basic auth credentials|invalid username\/password/i,
    'unauthenticated',
    'log in with "skopeo login" or give an auth file with --authfile',
  ],
  [
    /manifest unknown|name unknown|repository name not known|manifest not found|reading manifest \S+ in \S+: .*not found|no such image|reference does not exist/i,
    'not-found',
  ],
  [
    /no descriptor found|no image found in|tag not found|not found in \S*index|reference \S+ not found in|image not found/i,
    'not-found',
  ],
  [/no such file or directory|does not exist/i, 'not-found'],
  [/denied|permission|forbidden/i, 'permission-denied'],
  [/toomanyrequests|too many requests/i, 'resource-exhausted'],
  [
    /no such host|connection refused|i\/o timeout|connection reset|network is unreachable|no route to host|cannot connect to the docker daemon|EOF|50[0-9] /i,
    'unavailable',
  ],
  [/unsupported|not supported|unrecognized/i, 'unsupported'],
  [/invalid|unable to parse|parsing/i, 'invalid-argument'],
];

/** The `msg` of skopeo's fatal line (logrus text format), or its last line. */
function fatalMessage(stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  const fatal = lines.findLast((line) => line.includes('level=fatal')) ?? lines.at(-1) ?? '';
  const quoted = /msg=("(?:[^"\\]|\\.)*")/.exec(fatal)?.[1];
  if (quoted === undefined) return fatal;
  try {
    return JSON.parse(quoted) as string;
  } catch {
    return quoted.slice(1, -1);
  }
}

/** A GearError for what skopeo wrote to its standard error; `what` names the image. No URL keeps a user or password in it. */
export function skopeoError(what: string, stderr: string, exitCode: number | undefined): GearError {
  const message = fatalMessage(stderr)
    .replace(/\/\/[^/\s@"]*@/g, '//***@')
    .slice(0, 2000);
  const [, code, advice] = MEANINGS.find(([pattern]) => pattern.test(message)) ?? [
    undefined,
    'internal' as const,
    undefined,
  ];
  const reason = message === '' ? `skopeo ended with code ${exitCode ?? 'none'} and said nothing` : message;
  return new GearError(code, `${what}: ${reason}${advice === undefined ? '' : `; ${advice}`}`);
}
