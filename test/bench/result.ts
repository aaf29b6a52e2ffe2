/** One figure. */
export interface Result {
  /** "cached: find, page cache cold" */
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What it is compared with, in the same unit and the same run. */
  readonly beside?: { readonly name: string; readonly value: number };
  /** What another program like Gear took of the `beside` of its own run, which was another one: only the ratios compare. */
  readonly peer?: { readonly name: string; readonly timesBeside: number };
  /** What it must reach; undefined where nothing is asked. */
  readonly limit?: { readonly what: string; readonly most?: number; readonly least?: number; readonly value: number };
}

export interface BenchOptions {
  /** How often each thing is measured; medians are reported. */
  readonly rounds: number;
  /** Names of the images to measure with, where a bench has several; undefined: its own. */
  readonly images?: readonly string[] | undefined;
  readonly say: (text: string) => void;
}

export type Bench = (options: BenchOptions) => Promise<Result[]>;

/** The middle value. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (middle === undefined) throw new Error('nothing was measured');
  return middle;
}

/** The milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** Whether a figure is where it must be; undefined where nothing is asked. */
export function reached({ limit }: Result): boolean | undefined {
  if (limit === undefined) return undefined;
  return limit.value <= (limit.most ?? Number.POSITIVE_INFINITY) && limit.value >= (limit.least ?? 0);
}

const shown = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** A line for people. */
export function lineOf(result: Result): string {
  const { name, value, unit, beside, peer, limit } = result;
  const compared = beside === undefined ? '' : `, ${beside.name} ${shown(beside.value)} ${unit}`;
  const others =
    beside === undefined || peer === undefined
      ? ''
      : ` (${shown(value / beside.value)} times that; ${peer.name} in a run of its own ${shown(peer.timesBeside)})`;
  const asked =
    limit === undefined
      ? ''
      : `; ${limit.what} ${shown(limit.value)} (${limit.most === undefined ? `at least ${limit.least}` : `at most ${limit.most}`}): ${reached(result) === true ? 'reached' : 'NOT REACHED'}`;
  return `${name}: ${shown(value)} ${unit}${compared}${others}${asked}`;
}
