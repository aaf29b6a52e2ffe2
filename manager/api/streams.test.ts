import { describe, expect, it } from 'vitest';
import { sleep } from '#core/abort.ts';
import { Latest } from './latest.ts';
import { Metrics } from './metrics.ts';
import { untilAborted } from './until-aborted.ts';

describe('Latest', () => {
  it('hands over the newest value and leaves out what came in between', async () => {
    const latest = new Latest<number>();
    const seen: number[] = [];
    const reading = (async () => {
      for await (const value of latest.values(30)) seen.push(value);
    })();
    for (let value = 1; value <= 100; value++) {
      latest.put(value);
      if (value % 10 === 0) await sleep(10);
    }
    latest.end();
    await reading;
    expect(seen.at(-1)).toBe(100);
    expect(seen.length).toBeGreaterThan(1);
    expect(seen.length).toBeLessThan(20);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
  });

  it('ends at once, also without a value', async () => {
    const latest = new Latest<number>();
    latest.end();
    expect(await Array.fromAsync(latest.values(60_000))).toEqual([]);
    const another = new Latest<number>();
    const began = performance.now();
    setTimeout(() => another.end(), 20);
    another.put(1);
    expect(await Array.fromAsync(another.values(60_000))).toEqual([1]);
    expect(performance.now() - began).toBeLessThan(5000);
  });
});

describe('untilAborted', () => {
  async function* numbers(pause: number) {
    for (let number = 0; ; number++) {
      yield number;
      await sleep(pause);
    }
  }

  it('ends when the signal aborts, also while it waits', async () => {
    const controller = new AbortController();
    const seen: number[] = [];
    for await (const number of untilAborted(numbers(30_000), controller.signal)) {
      seen.push(number);
      setTimeout(() => controller.abort(), 20);
    }
    expect(seen).toEqual([0]);
    expect(await Array.fromAsync(untilAborted(numbers(1), AbortSignal.abort()))).toEqual([]);
  });

  it('gives everything, and errors, of a source that ends', async () => {
    const { signal } = new AbortController();
    const three = async function* () {
      yield* [1, 2, 3];
    };
    expect(await Array.fromAsync(untilAborted(three(), signal))).toEqual([1, 2, 3]);
    const broken = async function* () {
      yield 1;
      throw new Error('broken');
    };
    await expect(Array.fromAsync(untilAborted(broken(), signal))).rejects.toThrow('broken');
  });
});

describe('Metrics', () => {
  it('are rendered as Prometheus reads them', () => {
    const metrics = new Metrics();
    const calls = metrics.counter('calls_total', 'Calls');
    metrics.gauge('size', 'A size', () => 1.5);
    calls.add();
    calls.add(2, { method: 'a"b\\c\nd', code: 'OK' });
    calls.add(3, { method: 'a"b\\c\nd', code: 'OK' });
    expect(metrics.render()).toBe(
      [
        '# HELP calls_total Calls',
        '# TYPE calls_total counter',
        'calls_total 1',
        'calls_total{method="a\\"b\\\\c\\nd",code="OK"} 5',
        '# HELP size A size',
        '# TYPE size gauge',
        'size 1.5',
        '',
      ].join('\n'),
    );
  });
});
