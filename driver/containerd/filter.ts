import { FilterScanner } from './filter-scanner.ts';

/** What a filter is asked about: the value of a field (its path in parts), undefined where the thing has none. */
export type Fields = (path: readonly string[]) => string | undefined;
export type Filter = (fields: Fields) => boolean;

/**
 * Parses filters as containerd defines them (filters/parser.go); a thing passes when one of them matches, or when there are none:
 *
 *     filter   := selector (',' selector)*      all must match; an empty filter matches everything
 *     selector := path [operator value]         without an operator: the field is there
 *     path     := field ('.' field)*            a field is a word, or quoted: labels."a.b/c"
 *     operator := '==' | '!=' | '~='            '~=' takes a regular expression, which may also be quoted by / or |
 *
 * Throws invalid-argument, showing the filter.
 */
export function parseFilters(filters: readonly string[]): Filter {
  if (filters.length === 0) return () => true;
  const parsed = filters.map(parseFilter);
  return (fields) => parsed.some((filter) => filter(fields));
}

function parseFilter(text: string): Filter {
  if (text === '') return () => true;
  const scanner = new FilterScanner(text);
  const selectors: Filter[] = [selector(scanner)];
  for (let token = scanner.next(); token.kind !== 'end'; token = scanner.next()) {
    if (token.kind !== 'separator' || token.text !== ',') scanner.fail("expected ','", token.position);
    selectors.push(selector(scanner));
  }
  return (fields) => selectors.every((matches) => matches(fields));
}

function selector(scanner: FilterScanner): Filter {
  const path = [field(scanner)];
  for (let token = scanner.peek(); token.kind === 'separator' && token.text === '.'; token = scanner.peek()) {
    scanner.next();
    path.push(field(scanner));
  }
  if (scanner.peek().kind !== 'operator') return (fields) => fields(path) !== undefined;
  const { text: operator, position } = scanner.next();
  const wanted = value(scanner, operator);
  switch (operator) {
    case '==':
      return (fields) => fields(path) === wanted;
    case '!=':
      return (fields) => (fields(path) ?? '') !== wanted;
    case '~=': {
      const expression = regularExpression(wanted);
      // As containerd: an expression that is none matches nothing.
      return (fields) => expression?.test(fields(path) ?? '') ?? false;
    }
    default:
      return scanner.fail(`unknown operator ${operator}`, position);
  }
}

function field(scanner: FilterScanner): string {
  const { kind, text, quote, position } = scanner.next();
  if (kind === 'field' || (kind === 'quoted' && quote === '"')) return text;
  return scanner.fail('expected a field', position);
}

function value(scanner: FilterScanner, operator: string): string {
  const { kind, text, quote, position } = scanner.next();
  if (kind === 'value' || kind === 'field') return text;
  if (kind === 'quoted' && (quote === '"' || operator === '~=')) return text;
  return scanner.fail('expected a value', position);
}

function regularExpression(text: string): RegExp | undefined {
  try {
    return new RegExp(text, 'u');
  } catch {
    return undefined;
  }
}
