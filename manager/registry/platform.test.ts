import { describe, expect, it } from 'vitest';
import { choosePlatform, formatPlatform, parsePlatform, platformMatches } from './platform.ts';

const offers = (...texts: string[]) =>
  texts.map((text) => ({ text, platform: text === '' ? undefined : parsePlatform(text) }));

describe('platform', () => {
  it.each([
    ['linux/amd64', 'linux/amd64'],
    ['linux/x86_64', 'linux/amd64'],
    ['linux/aarch64', 'linux/arm64'],
    ['linux/arm/v7', 'linux/arm/v7'],
  ])('reads %s', (text, written) => {
    expect(formatPlatform(parsePlatform(text))).toBe(written);
  });

  it.each(['', 'linux', 'linux/', '/amd64', 'linux/arm/v7/x', 'linux/amd64 ', 'li nux/amd64'])('refuses %j', (text) => {
    expect(() => parsePlatform(text)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });

  it('takes a missing variant for the usual one', () => {
    const matches = (a: string, b: string) => platformMatches(parsePlatform(a), parsePlatform(b));
    expect(matches('linux/arm64/v8', 'linux/arm64')).toBe(true);
    expect(matches('linux/arm64', 'linux/arm64/v9')).toBe(true);
    expect(matches('linux/arm/v6', 'linux/arm')).toBe(false);
    expect(matches('linux/arm/v7', 'linux/arm')).toBe(true);
    expect(matches('linux/arm64', 'linux/amd64')).toBe(false);
    expect(matches('windows/amd64', 'linux/amd64')).toBe(false);
  });

  it('chooses the usual variant where none is asked for', () => {
    const list = offers('', 'linux/arm/v6', 'linux/amd64', 'linux/arm/v7', 'linux/arm64/v8');
    expect(choosePlatform(list, parsePlatform('linux/arm'))?.text).toBe('linux/arm/v7');
    expect(choosePlatform(list, parsePlatform('linux/arm/v6'))?.text).toBe('linux/arm/v6');
    expect(choosePlatform(list, parsePlatform('linux/arm64'))?.text).toBe('linux/arm64/v8');
    expect(choosePlatform(list, parsePlatform('linux/s390x'))).toBeUndefined();
  });
});
