type Labels = Readonly<Record<string, string>>;

interface Family {
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly values: Map<string, number>;
  /** Asked when the metrics are read, where the value is known elsewhere. */
  readonly read: (() => number) | undefined;
}

/** A number that only grows. */
export interface Counter {
  add(amount?: number, labels?: Labels): void;
}

/** Counters and gauges, rendered in Prometheus' text format (version 0.0.4). Labels must come from small closed sets. */
export class Metrics {
  readonly #families = new Map<string, Family>();

  /** `name` in Prometheus' style: "gear_calls_total". */
  counter(name: string, help: string): Counter {
    const values = new Map<string, number>();
    this.#families.set(name, { help, type: 'counter', values, read: undefined });
    return {
      add: (amount = 1, labels = {}) => {
        const key = renderLabels(labels);
        values.set(key, (values.get(key) ?? 0) + amount);
      },
    };
  }

  gauge(name: string, help: string, read: () => number): void {
    this.#families.set(name, { help, type: 'gauge', values: new Map(), read });
  }

  render(): string {
    const lines: string[] = [];
    for (const [name, { help, type, values, read }] of this.#families) {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      if (read !== undefined) lines.push(`${name} ${read()}`);
      for (const [labels, value] of values) lines.push(`${name}${labels} ${value}`);
    }
    return `${lines.join('\n')}\n`;
  }
}

function renderLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) => `${name}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  );
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}
