import { expect, test } from 'vitest';
import { Gate } from './gate.ts';

const forever = new AbortController().signal;

test('no more than the limit are inside, demand goes first, nobody is lost', async () => {
  const gate = new Gate(2);
  const order: string[] = [];
  const held = [await gate.enter('background', forever), await gate.enter('background', forever)];
  const work = async (urgency: 'demand' | 'background', name: string) => {
    using _place = await gate.enter(urgency, forever);
    order.push(name);
    expect(gate.load.inside).toBeLessThanOrEqual(2);
    await Promise.resolve();
  };
  const all = [work('background', 'b1'), work('background', 'b2'), work('demand', 'd1'), work('demand', 'd2')];
  await Promise.resolve();
  expect(gate.load).toEqual({ inside: 2, waiting: 4 });
  held[0]?.[Symbol.dispose]();
  await Promise.all(all);
  expect(order).toEqual(['d1', 'd2', 'b1', 'b2']);
  held[1]?.[Symbol.dispose]();
  expect(gate.load).toEqual({ inside: 0, waiting: 0 });
});

test('a waiter that gives up loses its place only', async () => {
  const gate = new Gate(1);
  const held = await gate.enter('demand', forever);
  const controller = new AbortController();
  const leaving = gate.enter('demand', controller.signal);
  const staying = gate.enter('demand', forever);
  controller.abort(new Error('gone'));
  await expect(leaving).rejects.toThrow('gone');
  held[Symbol.dispose]();
  (await staying)[Symbol.dispose]();
  expect(gate.load).toEqual({ inside: 0, waiting: 0 });
  await expect(gate.enter('demand', AbortSignal.abort(new Error('never')))).rejects.toThrow('never');
});
