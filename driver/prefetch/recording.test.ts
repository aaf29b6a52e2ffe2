import { expect, test } from 'vitest';
import { Recording } from './recording.ts';

function setUp() {
  const clock = { now: 1_000 };
  const recording = new Recording({ longest: 600_000, idle: 30_000 }, true, () => clock.now);
  return { clock, recording };
}

test('first touches in their order, with the milliseconds since the mount, each once', () => {
  const { clock, recording } = setUp();
  clock.now += 100;
  expect(recording.touch(7, 0)).toBe(true);
  clock.now += 5;
  expect([recording.touch(3, 2), recording.touch(7, 0), recording.touch(3, 1)]).toEqual([true, false, true]);
  expect(recording.take(2)).toEqual({
    first: true,
    complete: true,
    rows: [7, 3],
    chunks: [0, 2],
    milliseconds: [100, 105],
  });
  expect(recording.take(2)).toMatchObject({ first: false, rows: [3], chunks: [1] });
  expect(recording.take(2)).toBeUndefined();
  expect([recording.has(3, 1), recording.has(3, 3)]).toEqual([true, false]);
});

test('it ends when nothing new comes, or after the longest time, but not before the first touch', () => {
  const { clock, recording } = setUp();
  clock.now += 10_000_000;
  expect(recording.take(9)).toBeUndefined();
  expect(recording.touch(1, 0)).toBe(true);
  clock.now += 29_000;
  expect(recording.take(9)?.rows).toEqual([1]);
  expect(recording.touch(2, 0)).toBe(true);
  clock.now += 31_000;
  expect(recording.take(9)?.rows).toEqual([2]);
  expect([recording.touch(3, 0), recording.done]).toEqual([false, true]);
  const busy = setUp();
  for (let i = 0; i < 61; i++) {
    busy.clock.now += 10_000;
    expect(busy.recording.touch(i, 0)).toBe(true);
  }
  busy.clock.now += 1;
  busy.recording.take(100);
  expect(busy.recording.touch(99, 0)).toBe(false);
});

test('it is bounded', () => {
  const { recording } = setUp();
  for (let i = 0; i < 20_000; i++) recording.touch(i, i);
  expect(recording.touches).toBe(16_384);
});
