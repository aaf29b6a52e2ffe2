/** A row of what deploy/docker/demo prints. */
export interface DemoRow {
  readonly node: string;
  readonly what: string;
  readonly seconds: number;
  /** Bytes. */
  readonly received: number;
  readonly objects: number;
}

const UNITS: Readonly<Record<string, number>> = { '': 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 };

/** Reads the table, which is the last part of the output. */
export function demoRows(output: string): DemoRow[] {
  const pattern = /^(node\d) {2,}(.+?) {2,}([\d.]+) s {2,}([\d.]+)(Ki|Mi|Gi|)B {2,}(\d+)$/gm;
  return [...output.matchAll(pattern)].map(([, node = '', what = '', seconds, amount, unit = '', objects]) => ({
    node,
    what,
    seconds: Number(seconds),
    received: Number(amount) * (UNITS[unit] ?? Number.NaN),
    objects: Number(objects),
  }));
}
