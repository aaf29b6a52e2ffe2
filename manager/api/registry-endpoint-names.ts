/** Names in a list are at most so many in one answer. */
const MAX_PAGE = 10_000;

export interface NamesQuery {
  readonly n?: string | undefined;
  readonly last?: string | undefined;
}

/** A page of names in lexical order (OCI distribution specification, "Listing Tags"), and the Link header to the next. */
export function pageOf(
  names: readonly string[],
  { n, last }: NamesQuery,
  path: string,
): { readonly page: readonly string[]; readonly link: string | undefined } {
  const sorted = [...names].sort();
  const rest = last === undefined || last === '' ? sorted : sorted.filter((name) => name > last);
  const count = n !== undefined && /^\d{1,9}$/.test(n) ? Math.min(Number(n), MAX_PAGE) : MAX_PAGE;
  const page = rest.slice(0, count);
  const end = page.at(-1);
  if (end === undefined || page.length === rest.length) return { page, link: undefined };
  return { page, link: `<${path}?${new URLSearchParams({ last: end, n: String(count) })}>; rel="next"` };
}
