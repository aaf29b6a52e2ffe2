import type { Check, CheckState } from './check.ts';

const GROUPS: Readonly<Record<string, string>> = {
  kernel: 'Kernel',
  root: 'Root filesystem',
  docker: 'Docker',
  containerd: 'containerd (for Kubernetes, nerdctl and newer Docker)',
  tools: 'Tools',
  driver: 'Driver',
  manager: 'Manager',
  nfs: 'NFS (optional)',
};

const WORDS: Readonly<Record<CheckState, string>> = { ok: 'ok', warning: 'warning', missing: 'MISSING', unknown: '-' };
const COLOURS: Readonly<Record<CheckState, string>> = { ok: '32', warning: '33', missing: '31;1', unknown: '2' };

function summary(checks: readonly Check[]): string {
  const count = (state: CheckState) => checks.filter((check) => check.state === state).length;
  const [missing, warnings] = [count('missing'), count('warning')];
  const more = warnings === 0 ? '' : warnings === 1 ? ' 1 warning.' : ` ${warnings} warnings.`;
  if (missing === 0) return `All that Gear needs is there.${more}`;
  return `${missing} thing${missing === 1 ? '' : 's'} that Gear needs ${missing === 1 ? 'is' : 'are'} missing.${more}`;
}

/** The checks for people: a line each, in groups, aligned; below what is not ok what it costs and how to get it. */
export function reportText(checks: readonly Check[], { colour }: { colour: boolean }): string {
  const width = Math.max(...checks.map(({ title }) => title.length));
  const lines: string[] = [];
  let group = '';
  for (const { id, title, state, found, cost, remedy } of checks) {
    const own = id.split('.')[0] ?? '';
    if (own !== group) {
      if (group !== '') lines.push('');
      lines.push(GROUPS[own] ?? own);
      group = own;
    }
    const word = WORDS[state].padEnd(7);
    // A message of several lines would break the table.
    const detail = found.replace(/\s+/g, ' ');
    lines.push(
      `  ${colour ? `\x1b[${COLOURS[state]}m${word}\x1b[0m` : word}  ${title.padEnd(width)}  ${detail}`.trimEnd(),
    );
    if (cost !== undefined) lines.push(`           costs: ${cost}`);
    if (remedy !== undefined) lines.push(`           get it: ${remedy}`);
  }
  return `${lines.join('\n')}\n\n${summary(checks)}\n`;
}
