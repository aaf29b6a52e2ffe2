export type PrintedValue = string | boolean | readonly string[];

const SEGMENT = /"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+/g;
const STRING = /"(?:[^"\\]|\\.)*"|'[^']*'/g;
const LINE = /^([A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')\s*=\s*(.+)$/;

/** A TOML string on one line; undefined for escapes that JSON does not have. */
function unquoted(text: string): string | undefined {
  if (text.startsWith("'")) return text.slice(1, -1);
  if (!text.startsWith('"')) return text;
  try {
    return JSON.parse(text) as string;
  } catch {
    return undefined;
  }
}

function parsed(text: string): PrintedValue | undefined {
  if (text === 'true' || text === 'false') return text === 'true';
  if (/^(?:"(?:[^"\\]|\\.)*"|'[^']*')$/.test(text)) return unquoted(text);
  if (!/^\[.*\]$/.test(text)) return undefined;
  return (text.match(STRING) ?? []).flatMap((item) => unquoted(item) ?? []);
}

function keyOf(path: readonly string[]): string {
  return JSON.stringify(path);
}

/**
 * The strings, booleans and lists of strings of what `containerd config dump` prints: one table header or one key to a line. That is not all of TOML
 * (no dotted keys, no inline tables, nothing over several lines), but all that containerd's printer (go-toml 1 and 2) uses for the keys asked for here.
 */
export class PrintedToml {
  readonly #values = new Map<string, PrintedValue>();
  readonly #tables = new Set<string>();

  constructor(text: string) {
    // undefined: an entry of an array of tables, which nobody asks for.
    let table: readonly string[] | undefined = [];
    for (const raw of text.split('\n')) {
      const line = raw.trim();
      if (line.startsWith('[')) {
        table = line.startsWith('[[') ? undefined : (line.match(SEGMENT) ?? []).flatMap((part) => unquoted(part) ?? []);
        if (table !== undefined) this.#tables.add(keyOf(table));
        continue;
      }
      const [, key, value] = LINE.exec(line) ?? [];
      if (table === undefined || key === undefined || value === undefined) continue;
      const [name, content] = [unquoted(key), parsed(value)];
      if (name !== undefined && content !== undefined) this.#values.set(keyOf([...table, name]), content);
    }
  }

  /** Whether there is a table of this name. */
  hasTable(...path: string[]): boolean {
    return this.#tables.has(keyOf(path));
  }

  /** A string; undefined where there is none. */
  text(...path: string[]): string | undefined {
    const value = this.#values.get(keyOf(path));
    return typeof value === 'string' ? value : undefined;
  }

  flag(...path: string[]): boolean | undefined {
    const value = this.#values.get(keyOf(path));
    return typeof value === 'boolean' ? value : undefined;
  }

  /** A list of strings; empty where there is none. */
  list(...path: string[]): readonly string[] {
    const value = this.#values.get(keyOf(path));
    return Array.isArray(value) ? value : [];
  }
}
