import type { Logger } from '#core/log.ts';
import { AcceptedTokens, type Admission } from './accepted-tokens.ts';
import { ServerIdentity } from './identity.ts';
import type { SecurityConfig } from './options.ts';

/** Milliseconds in which the same stranger is logged once. */
const QUIET = 60_000;
const MAX_STRANGERS = 1_000;

export interface GuardParts {
  readonly config: SecurityConfig;
  readonly log: Logger;
  /** Counts what was refused, by why. */
  readonly refused: { add(amount: number, labels: { readonly reason: string }): void };
}

/** Who tries to get in, for the log. */
export interface Stranger {
  /** The address of the other side. */
  readonly peer: string;
  /** The call or path. */
  readonly wanted: string;
}

/** What listeners ask: which certificate to serve with, and whom to let in. */
export class Guard implements Disposable {
  readonly config: SecurityConfig;
  /** Undefined: no TLS. */
  readonly identity: ServerIdentity | undefined;
  readonly #tokens: AcceptedTokens | undefined;
  readonly #parts: GuardParts;
  readonly #logged = new Map<string, number>();
  readonly #resources: DisposableStack;

  /** Throws failed-precondition naming a file that cannot be used. */
  constructor(parts: GuardParts) {
    using stack = new DisposableStack();
    const { tls, tokenFile } = parts.config;
    this.config = parts.config;
    this.#parts = parts;
    this.identity = tls === undefined ? undefined : stack.use(new ServerIdentity(tls, parts.log));
    this.#tokens = tokenFile === undefined ? undefined : stack.use(new AcceptedTokens(tokenFile, parts.log));
    this.#resources = stack.move();
  }

  get asksForTokens(): boolean {
    return this.#tokens !== undefined;
  }

  /** Whether the bearer of an Authorization header may pass. Undefined: no. */
  admit(header: string | undefined, stranger: Stranger): Admission | undefined {
    const token = tokenOf(header);
    const admission = token === undefined ? undefined : this.#tokens?.admit(token);
    if (admission === undefined) this.#refuse(token === undefined ? 'no token' : 'wrong token', stranger);
    return admission;
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }

  #refuse(reason: string, { peer, wanted }: Stranger): void {
    this.#parts.refused.add(1, { reason });
    const key = `${reason} ${peer.replace(/:\d+$/, '')}`;
    const now = performance.now();
    if (now - (this.#logged.get(key) ?? Number.NEGATIVE_INFINITY) < QUIET) return;
    if (this.#logged.size >= MAX_STRANGERS) this.#logged.clear();
    this.#logged.set(key, now);
    this.#parts.log.warn({ peer, wanted: wanted.slice(0, 200), reason }, 'refused');
  }
}

/** The token of an Authorization header: a bearer's, or the password of whatever user. */
export function tokenOf(header: string | undefined): string | undefined {
  const [, scheme, value = ''] = /^\s*(bearer|basic)\s+(\S+)\s*$/i.exec(header ?? '') ?? [];
  if (scheme === undefined) return undefined;
  if (scheme.toLowerCase() === 'bearer') return value;
  const text = Buffer.from(value, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon === -1 ? undefined : text.slice(colon + 1);
}
