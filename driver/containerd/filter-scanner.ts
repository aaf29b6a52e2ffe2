import { GearError } from '#core/errors.ts';

export type TokenKind = 'field' | 'value' | 'quoted' | 'separator' | 'operator' | 'end';

export interface Token {
  readonly kind: TokenKind;
  /** Of quoted text: what stands between the quotes, escapes undone. */
  readonly text: string;
  /** Of quoted text. */
  readonly quote?: string;
  readonly position: number;
}

const QUOTES = '"/|';
const SEPARATORS = ',.';
const OPERATORS = '=!~';
const FIELD = /[A-Za-z0-9_]/;
const SPACE = /\s/u;
/** Letters, marks, numbers, punctuation and symbols: what Go calls graphic, without a space and the comma. */
const VALUE = /[\p{L}\p{M}\p{N}\p{P}\p{S}]/u;
const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
};

/** Cuts a filter into tokens, as containerd's filters/scanner.go does. Errors are invalid-argument and show the filter. */
export class FilterScanner {
  readonly #input: string;
  #position = 0;
  /** Behind an operator other characters are allowed than in a field. */
  #value = false;

  constructor(input: string) {
    this.#input = input;
  }

  fail(what: string, position: number = this.#position): never {
    throw new GearError('invalid-argument', `filter ${JSON.stringify(this.#input)}: ${what} at ${position}`);
  }

  /** The next token, without taking it. */
  peek(): Token {
    const [position, value] = [this.#position, this.#value];
    const token = this.next();
    [this.#position, this.#value] = [position, value];
    return token;
  }

  next(): Token {
    while (SPACE.test(this.#here())) this.#position++;
    const position = this.#position;
    const here = this.#here();
    if (here === '') return { kind: 'end', text: '', position };
    if (QUOTES.includes(here)) return { kind: 'quoted', text: this.#quoted(here), quote: here, position };
    if (SEPARATORS.includes(here)) {
      this.#value = false;
      this.#position++;
      return { kind: 'separator', text: here, position };
    }
    if (OPERATORS.includes(here)) {
      const text = this.#run((character) => OPERATORS.includes(character));
      this.#value = true;
      return { kind: 'operator', text, position };
    }
    if (this.#value) {
      this.#value = false;
      const text = this.#run((character) => character !== ',' && VALUE.test(character));
      if (text === '') this.fail('expected a value');
      return { kind: 'value', text, position };
    }
    if (FIELD.test(here)) return { kind: 'field', text: this.#run((character) => FIELD.test(character)), position };
    return this.fail(`unexpected ${JSON.stringify(here)}`);
  }

  #here(): string {
    const code = this.#input.codePointAt(this.#position);
    return code === undefined ? '' : String.fromCodePoint(code);
  }

  #run(belongs: (character: string) => boolean): string {
    const start = this.#position;
    for (let here = this.#here(); here !== '' && belongs(here); here = this.#here()) this.#position += here.length;
    return this.#input.slice(start, this.#position);
  }

  #quoted(quote: string): string {
    const start = this.#position++;
    let text = '';
    for (;;) {
      const here = this.#here();
      if (here === '' || here === '\n') this.fail('quoted text without an end', start);
      this.#position += here.length;
      if (here === quote) return text;
      text += here === '\\' ? this.#escape(quote) : here;
    }
  }

  #escape(quote: string): string {
    const letter = this.#here();
    const simple = letter === quote ? quote : SIMPLE_ESCAPES[letter];
    if (simple !== undefined) {
      this.#position++;
      return simple;
    }
    const [base, digits, skip] = /[0-7]/.test(letter)
      ? [8, 3, 0]
      : [16, ({ x: 2, u: 4, U: 8 } as Record<string, number>)[letter] ?? 0, 1];
    const text = this.#input.slice(this.#position + skip, this.#position + skip + digits);
    const code = Number.parseInt(text, base);
    const sound = digits > 0 && new RegExp(base === 8 ? '^[0-7]{3}$' : `^[0-9A-Fa-f]{${digits}}$`).test(text);
    if (!sound || code > 0x10ffff) this.fail('an escape that is none');
    this.#position += skip + digits;
    return String.fromCodePoint(code);
  }
}
