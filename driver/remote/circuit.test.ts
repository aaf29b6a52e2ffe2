import { expect, test } from 'vitest';
import { Circuit } from './circuit.ts';

const forever = new AbortController().signal;

test('while it is away one attempt at a time goes through, and all go on when one succeeds', async () => {
  const circuit = new Circuit({ first: 5, most: 10 });
  {
    using passage = await circuit.enter(forever);
    passage.failed();
  }
  expect(circuit.open).toBe(true);
  let inside = 0;
  let most = 0;
  let attempts = 0;
  const attempt = async () => {
    for (;;) {
      using passage = await circuit.enter(forever);
      attempts++;
      inside++;
      most = Math.max(most, inside);
      await new Promise((resolve) => setTimeout(resolve, 2));
      inside--;
      if (attempts < 5) {
        passage.failed();
        continue;
      }
      passage.succeeded();
      return;
    }
  };
  const first = Array.from({ length: 20 }, attempt);
  await new Promise((resolve) => setTimeout(resolve, 3));
  expect(most).toBeLessThanOrEqual(1);
  await Promise.all(first);
  expect(circuit.open).toBe(false);
  // Five probes, the last of which opened the way for the nineteen others.
  expect(attempts).toBe(5 + 19);
});

test('pauses grow up to the limit, and a waiter leaves when it is told to', async () => {
  const circuit = new Circuit({ first: 40, most: 80, random: () => 1 });
  const pauses: number[] = [];
  for (let i = 0; i < 4; i++) {
    const started = performance.now();
    using passage = await circuit.enter(forever);
    pauses.push(performance.now() - started);
    passage.failed();
  }
  expect(pauses[0]).toBeLessThan(20);
  expect(pauses[1]).toBeGreaterThanOrEqual(38);
  expect(pauses[3]).toBeGreaterThanOrEqual(78);
  const controller = new AbortController();
  const probing = circuit.enter(controller.signal);
  const waiting = circuit.enter(controller.signal);
  controller.abort(new Error('enough'));
  await expect(probing).rejects.toThrow('enough');
  await expect(waiting).rejects.toThrow('enough');
  circuit.reset();
  using _free = await circuit.enter(forever);
});

test('failures that were under way together count once', async () => {
  const circuit = new Circuit({ first: 30, most: 1_000_000, random: () => 1 });
  const passages = await Promise.all(Array.from({ length: 30 }, () => circuit.enter(forever)));
  for (const passage of passages) passage.failed();
  for (const passage of passages) passage[Symbol.dispose]();
  const started = performance.now();
  using _probe = await circuit.enter(forever);
  expect(performance.now() - started).toBeLessThan(200);
});
