/** How often at most something is said; milliseconds. */
const INTERVALS = { terminal: 100, plain: 5_000, json: 1_000, none: Number.POSITIVE_INFINITY } as const;
export type ProgressStyle = keyof typeof INTERVALS;

const BAR = 24;

/** Bytes for people: "12.3 MB". */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 99.95 ? 1 : 0)} ${units[unit]}`;
}

/** " 45 %  12.3 MB of 27.0 MB", with a bar in front where it is wanted. */
export function amountLine(done: number, total: number, bar: boolean): string {
  const part = total === 0 ? 1 : Math.min(1, done / total);
  const filled = Math.round(part * BAR);
  const drawn = bar ? `[${'#'.repeat(filled)}${'-'.repeat(BAR - filled)}] ` : '';
  return `${drawn}${String(Math.floor(part * 100)).padStart(3)} %  ${formatBytes(done)} of ${formatBytes(total)}`;
}

/** The style that suits what standard error is, and what the user asked for. */
export function progressStyle({ json, quiet }: { readonly json: boolean; readonly quiet: boolean }): ProgressStyle {
  if (json) return 'json';
  if (quiet) return 'none';
  return process.stderr.isTTY ? 'terminal' : 'plain';
}

/** Shows progress: a bar that is redrawn on a terminal, else lines now and then; as JSON, a line each on standard output. A new phase is told at once. */
export class ProgressView<P extends { readonly phase: string }> implements Disposable {
  readonly #style: ProgressStyle;
  readonly #line: (progress: P, bar: boolean) => string;
  #phase: string | undefined;
  #last = Number.NEGATIVE_INFINITY;
  #drawn = false;

  constructor(style: ProgressStyle, line: (progress: P, bar: boolean) => string) {
    this.#style = style;
    this.#line = line;
  }

  show(progress: P): void {
    if (this.#style === 'none') return;
    const now = performance.now();
    if (progress.phase === this.#phase && now - this.#last < INTERVALS[this.#style]) return;
    this.#phase = progress.phase;
    this.#last = now;
    if (this.#style === 'json') process.stdout.write(`${JSON.stringify(progress)}\n`);
    else if (this.#style === 'plain') process.stderr.write(`${this.#line(progress, false)}\n`);
    else {
      const line = this.#line(progress, true).slice(0, (process.stderr.columns ?? 80) - 1);
      process.stderr.write(`\r\x1b[K${line}`);
      this.#drawn = true;
    }
  }

  /** Wipes the bar, so that what follows stands on a line of its own. */
  [Symbol.dispose](): void {
    if (this.#drawn) process.stderr.write('\r\x1b[K');
    this.#drawn = false;
  }
}
