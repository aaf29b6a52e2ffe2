/** One way to prove who one is, as a WWW-Authenticate header offers it (RFC 9110, 11.6.1). */
export interface Challenge {
  /** In lower case: "basic", "bearer". */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const PART = new RegExp(`\\s*,?\\s*(?:(${TOKEN})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))|(${TOKEN}))`, 'y');

/** Reads a WWW-Authenticate header; several challenges may stand in one. What cannot be read ends it. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  PART.lastIndex = 0;
  for (;;) {
    const match = PART.exec(header);
    if (match === null) return challenges;
    const [, name, quoted, plain, scheme] = match;
    if (scheme !== undefined) challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() });
    else if (name !== undefined) {
      const value = quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '';
      challenges.at(-1)?.parameters.set(name.toLowerCase(), value);
    }
  }
}

/** The target of the `rel="next"` link in a Link header (RFC 8288), as it stands there. */
export function nextLink(header: string | undefined): string | undefined {
  for (const [, target, parameters = ''] of (header ?? '').matchAll(/<([^>]*)>([^<]*)/g)) {
    if (/;\s*rel\s*=\s*(?:"next"|next\b)/i.test(parameters)) return target;
  }
  return undefined;
}
