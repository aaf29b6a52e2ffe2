import { expect, test } from 'vitest';
import { isDying, isThreadDying } from './dying.ts';

test.each([
  ['State:\tS (sleeping)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n', false],
  ['State:\tD (disk sleep)\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n', true],
  ['State:\tD (disk sleep)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n', true],
  // SIGALRM, SIGCHLD and a real-time signal.
  ['State:\tS (sleeping)\nSigPnd:\t0000000000002000\nShdPnd:\t4000000000010000\n', false],
  ['State:\tZ (zombie)\nSigPnd:\t0000000000000000\n', true],
])('%j', (status, dying) => {
  expect(isDying(status)).toBe(dying);
});

test('this thread lives, one that is not there does not', () => {
  expect(isThreadDying(process.pid)).toBe(false);
  expect(isThreadDying(2 ** 22 + 1)).toBe(true);
});
