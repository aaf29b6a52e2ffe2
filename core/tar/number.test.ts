import { describe, expect, it } from 'vitest';
import { BadNumber, parseDecimal, parseNumber, parseTime } from './number.ts';

const number = (hex: string) => {
  const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex');
  return parseNumber(bytes, 0, bytes.length);
};
const octal = (text: string) => number(Buffer.from(text, 'latin1').toString('hex'));

describe('numbers of a header', () => {
  it.each([
    ['0000644\0', 0o644],
    ['000644 \0', 0o644],
    ['   644 \0', 0o644],
    ['77777777', 0o77777777],
    ['0\0\0\0\0\0\0\0', 0],
    ['\0\0\0\0\0\0\0\0', 0],
    ['        ', 0],
    ['644\0junk', 0o644],
  ])('reads octal %j', (text, value) => expect(octal(text)).toBe(value));

  it.each(['0000844\0', '-000001\0', '0x1f\0\0\0\0', 'abcdefgh'])('refuses %j', (text) => {
    expect(() => octal(text)).toThrow(BadNumber);
  });

  it.each([
    ['80000000 00000000', 0],
    ['80000000 ffffffff', 0xffffffff],
    ['80000000 00000000 80000000', 2 ** 31],
    ['801fffff ffffffff', Number.MAX_SAFE_INTEGER],
    ['ffffffff ffffffff', -1],
    ['ffffffff ffffffff ffffcfc7', -12345],
    ['c0', -64],
    ['bf', 63],
  ])('reads base-256 %s', (hex, value) => expect(number(hex)).toBe(value));

  it.each(['80200000 00000000', 'bfffffff ffffffff', 'c0000000 00000000'])('refuses the inexact %s', (hex) => {
    expect(() => number(hex)).toThrow(BadNumber);
  });
});

describe('numbers of a PAX header', () => {
  it.each([
    ['0', 0, 0],
    ['1.5', 1, 500_000_000],
    ['1.', 1, 0],
    ['1.123456789987', 1, 123_456_789],
    ['-1.5', -2, 500_000_000],
    ['-0.25', -1, 750_000_000],
    ['-12345', -12345, 0],
    ['-0', 0, 0],
    ['1700000000.000000001', 1_700_000_000, 1],
  ])('reads the time %s', (text, seconds, nanoseconds) => {
    expect(parseTime(text)).toEqual({ seconds, nanoseconds });
  });

  it.each(['', '.', '.5', '1e3', '+1', '1.5.5', '--1', '1 ', '99999999999999999'])('refuses the time %j', (text) => {
    expect(() => parseTime(text)).toThrow(BadNumber);
  });

  it.each(['', '-1', '1.0', ' 1', '9007199254740992', '99999999999999999'])('refuses the decimal %j', (text) => {
    expect(() => parseDecimal(text)).toThrow(BadNumber);
  });
});
