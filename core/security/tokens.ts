import { createHash } from 'node:crypto';
import { GearError } from '../errors.ts';

/** A line of a token file. */
export interface TokenLine {
  /** Whose it is: for logs. */
  readonly name: string;
  /** sha256 of the token. */
  readonly hash: Buffer;
  /** Undefined where the file has only its hash. */
  readonly token: string | undefined;
}

/** What fits into a header of HTTP and cannot be guessed. */
const TOKEN = /^[A-Za-z0-9._~+/=-]{16,512}$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}$/;
const HASH = /^sha256:([0-9a-f]{64})$/;

export function hashToken(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

function readToken(word: string): Pick<TokenLine, 'hash' | 'token'> | undefined {
  const hash = HASH.exec(word)?.[1];
  if (hash !== undefined) return { hash: Buffer.from(hash, 'hex'), token: undefined };
  return TOKEN.test(word) ? { hash: hashToken(word), token: word } : undefined;
}

/**
 * Reads a token file: a line `NAME TOKEN` or `NAME sha256:HEX` for each token, empty lines and lines that begin with # are ignored. A line of one word is
 * a token without a name. Throws failed-precondition naming the line, never what it says.
 */
export function parseTokens(text: string, what: string): TokenLine[] {
  const lines: TokenLine[] = [];
  for (const [at, raw] of text.split('\n').entries()) {
    const words = raw.trim().split(/\s+/);
    if (words[0] === '' || words[0]?.startsWith('#') === true) continue;
    const [name, word] = words.length === 1 ? ['(no name)', words[0]] : words;
    const read = words.length > 2 || word === undefined ? undefined : readToken(word);
    const isNamed = words.length === 1 || NAME.test(name ?? '');
    if (read === undefined || !isNamed) {
      throw new GearError(
        'failed-precondition',
        `${what}: line ${at + 1} is not "NAME TOKEN": a token has 16 to 512 letters, digits and . _ ~ + / = -, or is sha256: and 64 hexadecimal digits`,
      );
    }
    lines.push({ name: name ?? '', ...read });
  }
  if (lines.length === 0) throw new GearError('failed-precondition', `${what}: there is no token in it`);
  return lines;
}

/** The token that a client sends: the first of its file. Throws failed-precondition. */
export function firstToken(text: string, what: string): string {
  const token = parseTokens(text, what)[0]?.token;
  if (token !== undefined) return token;
  throw new GearError(
    'failed-precondition',
    `${what}: its first line has only the hash of a token; a client needs it whole`,
  );
}
