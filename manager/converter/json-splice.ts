import { GearError } from '#core/errors.ts';

interface Span {
  readonly start: number;
  readonly end: number;
}

const SPACE = /[\t\n\r ]*/y;

function skipSpace(text: string, at: number): number {
  SPACE.lastIndex = at;
  SPACE.test(text);
  return SPACE.lastIndex;
}

function stringEnd(text: string, at: number): number {
  let i = at + 1;
  while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
  return i + 1;
}

/** Where the value that starts at `at` ends. */
function valueEnd(text: string, at: number): number {
  let depth = 0;
  let i = at;
  do {
    const c = text[i];
    if (c === '"') {
      i = stringEnd(text, i);
      continue;
    }
    if (c === '{' || c === '[') depth++;
    else if (c === '}' || c === ']') depth--;
    i++;
    // A number, true, false or null ends where something else begins.
    if (depth === 0 && c !== '}' && c !== ']') {
      while (i < text.length && !/[,\]}\s]/.test(text[i] as string)) i++;
      return i;
    }
  } while (depth > 0);
  return i;
}

/** Where the object that starts at `at` has the value of its member `key` (the last one so named, as JSON readers have it). */
function memberSpan(text: string, at: number, key: string): Span | undefined {
  let found: Span | undefined;
  let i = skipSpace(text, at + 1);
  while (text[i] === '"') {
    const nameEnd = stringEnd(text, i);
    const name = JSON.parse(text.slice(i, nameEnd)) as string;
    const start = skipSpace(text, skipSpace(text, nameEnd) + 1);
    const end = valueEnd(text, start);
    if (name === key) found = { start, end };
    i = skipSpace(text, end);
    if (text[i] === ',') i = skipSpace(text, i + 1);
  }
  return found;
}

/**
 * JSON text with one member's value replaced and every other byte as it was: parsing and printing again would change numbers, escapes and the order of
 * keys. `path` names the member; an object on the way that is missing is invalid-argument, the member itself is then appended.
 */
export function spliceJson(text: string, path: readonly [string, ...string[]], value: unknown): string {
  JSON.parse(text);
  let object = skipSpace(text, 0);
  for (const [i, key] of path.entries()) {
    if (text[object] !== '{')
      throw new GearError('invalid-argument', `JSON: ${JSON.stringify(path[i - 1] ?? '')} is not an object`);
    const span = memberSpan(text, object, key);
    if (i === path.length - 1) {
      const json = JSON.stringify(value);
      if (span !== undefined) return text.slice(0, span.start) + json + text.slice(span.end);
      const end = valueEnd(text, object) - 1;
      const comma = text[skipSpace(text, object + 1)] === '}' ? '' : ',';
      return `${text.slice(0, end)}${comma}${JSON.stringify(key)}:${json}${text.slice(end)}`;
    }
    if (span === undefined) throw new GearError('invalid-argument', `JSON: ${JSON.stringify(key)} is missing`);
    object = span.start;
  }
  return text;
}
