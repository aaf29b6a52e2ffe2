import { timingSafeEqual } from 'node:crypto';
import type { Logger } from '#core/log.ts';
import { watchFiles } from '#core/security/file-watch.ts';
import { readPrivateFile } from '#core/security/private-file.ts';
import { hashToken, parseTokens, type TokenLine } from '#core/security/tokens.ts';

/** Leave to be served for as long as the token is accepted. */
export interface Admission {
  /** Whose token it is. */
  readonly name: string;
  /** Calls `end` when the token is revoked. What it gives is called when that does not matter any more. */
  untilRevoked(end: () => void): () => void;
}

interface Accepted {
  readonly line: TokenLine;
  readonly live: Set<() => void>;
}

function readTokens(path: string): Map<string, Accepted> {
  const text = readPrivateFile(path, 'secret', '--token-file').toString('utf8');
  const lines = parseTokens(text, `--token-file ${path}`);
  return new Map(lines.map((line) => [line.hash.toString('hex'), { line, live: new Set() }]));
}

/** The tokens of a file, which is read again when it changes: what is no longer in it is refused from then on, and what is served for it ends. */
export class AcceptedTokens implements Disposable {
  readonly #watch: Disposable;
  #accepted: Map<string, Accepted>;

  /** Throws failed-precondition naming the file. */
  constructor(path: string, log: Logger) {
    this.#accepted = readTokens(path);
    this.#watch = watchFiles([path], () => {
      try {
        const revoked = this.#replace(readTokens(path));
        log.info({ path, tokens: this.#accepted.size, revoked }, 'token file read again');
      } catch (error) {
        log.error({ err: error }, 'token file not taken; the tokens before are still accepted');
      }
    });
  }

  /** Undefined: it is none of them. Takes the same time whichever it is. */
  admit(token: string): Admission | undefined {
    const hash = hashToken(token);
    let found: Accepted | undefined;
    for (const accepted of this.#accepted.values()) {
      if (timingSafeEqual(hash, accepted.line.hash)) found = accepted;
    }
    if (found === undefined) return undefined;
    const { line, live } = found;
    return {
      name: line.name,
      untilRevoked: (end) => {
        live.add(end);
        return () => void live.delete(end);
      },
    };
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }

  /** Gives the names of what is gone. */
  #replace(next: Map<string, Accepted>): string[] {
    const before = this.#accepted;
    this.#accepted = new Map(
      [...next].map(([hash, { line }]) => [hash, { line, live: before.get(hash)?.live ?? new Set() }]),
    );
    const gone = [...before].filter(([hash]) => !next.has(hash)).map(([, accepted]) => accepted);
    for (const { live } of gone) for (const end of [...live]) end();
    return gone.map(({ line }) => line.name);
  }
}
