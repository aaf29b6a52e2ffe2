import { expect, test } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { MAX_ITEMS, Profile, type TouchedChunk } from './profile.ts';
import { decodeProfile, encodeProfile } from './profile-codec.ts';

const image = digestOf(Buffer.from('image'));
const empty = () => new Profile({ image, chunkSize: 131072, runs: 0, inheritedFrom: undefined, updatedAt: 0 });
const touch = (name: string, milliseconds: number, chunk = 0): TouchedChunk => ({
  digest: digestOf(Buffer.from(name)),
  chunk,
  bytes: 100,
  milliseconds,
});
const run = (profile: Profile, names: readonly string[], complete = true) =>
  profile.merge({ touches: names.map((name, i) => touch(name, i * 10)), first: true, complete }, 1);
const chosen = (profile: Profile) => profile.chosen().map(({ digest }) => digest);
const digests = (...names: string[]) => names.map((name) => digestOf(Buffer.from(name)));

test('the first run decides alone, in its order, chunks of one object each for itself', () => {
  const profile = empty();
  profile.merge({
    touches: [touch('b', 5, 7), touch('a', 5), touch('b', 9, 2), touch('c', 1)],
    first: true,
    complete: true,
  });
  expect(profile.chosen().map(({ chunk }) => chunk)).toEqual([0, 7, 0, 2]);
  expect(chosen(profile)).toEqual(digests('c', 'b', 'a', 'b'));
});

test('what one odd run touched is out again after two ordinary ones, whichever of them came first', () => {
  for (const odd of [0, 1, 2]) {
    const profile = empty();
    for (let i = 0; i < 3; i++) run(profile, i === odd ? ['x', 'y', 'z'] : ['a', 'b']);
    expect(chosen(profile)).toEqual(digests('a', 'b'));
  }
});

test('a run that was given the profile says nothing of what is in it, and adds what it missed', () => {
  const profile = empty();
  run(profile, ['a', 'b']);
  for (let i = 0; i < 10; i++) run(profile, i < 5 ? ['late'] : [], false);
  expect(new Set(chosen(profile))).toEqual(new Set(digests('a', 'b', 'late')));
  // Runs that saw everything take out what nobody needs any more.
  for (let i = 0; i < 12; i++) run(profile, ['a', 'late']);
  expect(new Set(chosen(profile))).toEqual(new Set(digests('a', 'late')));
});

test('a run may come in parts', () => {
  const profile = empty();
  profile.merge({ touches: [touch('a', 0)], first: true, complete: true });
  profile.merge({ touches: [touch('b', 50)], first: false, complete: true });
  expect(profile.runs).toBe(1);
  expect(chosen(profile)).toEqual(digests('a', 'b'));
});

test('thousands of runs follow what is used now, and take no more room than one', () => {
  const profile = empty();
  for (let i = 0; i < 500; i++) run(profile, ['a', `once ${i}`]);
  for (let i = 0; i < 300; i++) run(profile, ['b']);
  expect(chosen(profile)).toEqual(digests('b'));
  expect(profile.size).toBeLessThan(100);
  expect(profile.runs).toBeLessThanOrEqual(64);
});

test('a profile has a largest size', () => {
  const profile = empty();
  const touches = Array.from({ length: MAX_ITEMS + 500 }, (_, i) => touch('big', i, i));
  profile.merge({ touches, first: true, complete: true });
  expect(profile.size).toBe(MAX_ITEMS);
});

test('what is written is read back; anything else is refused', () => {
  const profile = empty();
  run(profile, ['a', 'b']);
  run(profile, ['b', 'c'], false);
  const text = encodeProfile(profile);
  const again = decodeProfile(text, 'here');
  expect(encodeProfile(again)).toBe(text);
  expect(again.chosen()).toEqual(profile.chosen());
  for (const damaged of [
    '',
    '{}',
    text.slice(0, -20),
    text.replace('131072', '0'),
    text.replace(/"items":\[\[/, '"items":[[1,'),
    text.replace('100', '-100'),
    text.replace(image, 'x'),
  ]) {
    expect(() => decodeProfile(damaged, 'here')).toThrow(/here/);
  }
});
