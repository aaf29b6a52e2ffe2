const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text that is HTML already. Made by `html` only, which escapes whatever is put into it. */
export class Html {
  readonly #text: string;

  private constructor(text: string) {
    this.#text = text;
  }

  static of(pieces: TemplateStringsArray, values: readonly HtmlValue[]): Html {
    return new Html(pieces.reduce((text, piece, at) => text + rendered(values[at - 1]) + piece));
  }

  toString(): string {
    return this.#text;
  }
}

export type HtmlValue = Html | string | number | undefined | readonly HtmlValue[];

function rendered(value: HtmlValue): string {
  if (value === undefined) return '';
  if (value instanceof Html) return value.toString();
  if (typeof value === 'object') return value.map(rendered).join('');
  return String(value).replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}

/** HTML from a template: what is put in is escaped, for elements and for attributes in quotes alike, unless it is HTML itself; lists are joined. */
export function html(pieces: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  return Html.of(pieces, values);
}
