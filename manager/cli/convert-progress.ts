import type { ConvertPhase, ConvertProgress } from '../converter/request.ts';

/** How often at most something is said; milliseconds. */
const INTERVALS = { terminal: 100, plain: 5_000, json: 1_000 } as const;
export type ProgressStyle = keyof typeof INTERVALS | 'none';

const PHASES: Readonly<Record<ConvertPhase, string>> = {
  resolve: 'looking up the image',
  fetch: 'fetching',
  layers: 'converting',
  index: 'writing the index',
  push: 'writing the Gear image',
  done: 'done',
};
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

/** One line: what is being done, and how far it is. */
export function progressLine(progress: ConvertProgress, bar: boolean): string {
  const { phase, doneBytes, totalBytes, layer, layers, newObjects, newBytes } = progress;
  const words = PHASES[phase];
  if ((phase !== 'fetch' && phase !== 'layers') || totalBytes === 0) return words;
  const part = Math.min(1, doneBytes / totalBytes);
  const filled = Math.round(part * BAR);
  const drawn = bar ? `[${'#'.repeat(filled)}${'-'.repeat(BAR - filled)}] ` : '';
  const amount = `${drawn}${String(Math.floor(part * 100)).padStart(3)} %  ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
  if (phase === 'fetch') return `${words}  ${amount}`;
  return `${words}  ${amount}  layer ${layer} of ${layers}  ${newObjects} new objects (${formatBytes(newBytes)})`;
}

/** Shows a conversion's progress: a bar that is redrawn on a terminal, else lines now and then; as JSON, a line each on standard output. */
export class ProgressView implements Disposable {
  readonly #style: ProgressStyle;
  #phase: ConvertPhase | undefined;
  #last = Number.NEGATIVE_INFINITY;
  #drawn = false;

  constructor(style: ProgressStyle) {
    this.#style = style;
  }

  show(progress: ConvertProgress): void {
    if (this.#style === 'none' || progress.phase === 'done') return;
    const now = performance.now();
    if (progress.phase === this.#phase && now - this.#last < INTERVALS[this.#style]) return;
    this.#phase = progress.phase;
    this.#last = now;
    if (this.#style === 'json') process.stdout.write(`${JSON.stringify(progress)}\n`);
    else if (this.#style === 'plain') process.stderr.write(`${progressLine(progress, false)}\n`);
    else {
      const line = progressLine(progress, true).slice(0, (process.stderr.columns ?? 80) - 1);
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
