import { describe, expect, it } from 'vitest';
import { GearError } from '../errors.ts';
import { showPath, splitPath, whiteoutTarget } from './path.ts';

describe('splitPath', () => {
  it.each([
    ['a/b', ['a', 'b']],
    ['./a//b/', ['a', 'b']],
    ['/a/./b', ['a', 'b']],
    ['.', []],
    ['./', []],
    ['/', []],
    ['', []],
    ['...', ['...']],
    ['a/..b/b..', ['a', '..b', 'b..']],
    ['\xff\xfe/\n', ['\xff\xfe', '\n']],
  ])('splits %j', (path, expected) => expect(splitPath(path)).toEqual(expected));

  it.each(['..', '../a', 'a/..', 'a/../b', '/..', 'a\0b', `a/${'n'.repeat(256)}`, 'a/'.repeat(2049)])(
    'refuses %j',
    (path) => {
      expect(() => splitPath(path)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    },
  );

  it('has a limit for depth', () => {
    expect(splitPath('a/'.repeat(1024))).toHaveLength(1024);
    expect(() => splitPath('a/'.repeat(1025))).toThrow(/1025 components.*\(depth\) is 1024/);
  });
});

describe('whiteoutTarget', () => {
  it.each([
    ['.wh.a', { kind: 'whiteout', name: 'a' }],
    ['.wh..a', { kind: 'whiteout', name: '.a' }],
    ['.wh..wh.', { kind: 'internal' }],
    ['.wh..wh..opq', { kind: 'opaque' }],
    ['.wh..wh.plnk', { kind: 'internal' }],
    ['.wh..wh..opq2', { kind: 'internal' }],
    ['.wha', undefined],
    ['a.wh.b', undefined],
    ['', undefined],
  ])('knows %j', (name, expected) => expect(whiteoutTarget(name)).toEqual(expected));

  it.each(['.wh.', '.wh..', '.wh...'])('refuses %j', (name) => expect(() => whiteoutTarget(name)).toThrow(GearError));
});

it('shows paths that are no text', () => {
  expect(showPath('a\nb"')).toBe('"a\\nb\\""');
  expect(showPath('\xc3\xa9')).toBe('"é"');
  expect(showPath('n'.repeat(500)).length).toBeLessThan(320);
});
