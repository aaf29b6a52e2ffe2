/** A numeric field that does not say a number; `message` tells what it says. */
export class BadNumber extends Error {
  override readonly name = 'BadNumber';
}

/**
 * A number of a tar header: octal digits, with spaces and NULs around them; or, when the first bit is set, two's complement of the remaining bits,
 * most significant byte first (GNU "base-256", may be negative). Throws BadNumber where it is neither, or not exact in a double.
 */
export function parseNumber(block: Buffer, offset: number, length: number): number {
  const first = block[offset] as number;
  return first & 0x80 ? parseBase256(block, offset, length) : parseOctal(block, offset, length);
}

/** Octal digits, with spaces and NULs around them; nothing at all is 0. */
export function parseOctal(block: Buffer, offset: number, length: number): number {
  const end = offset + length;
  let at = offset;
  while (at < end && isPadding(block[at])) at++;
  let value = 0;
  for (; at < end; at++) {
    const digit = (block[at] as number) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  if (at < end && !isPadding(block[at])) {
    throw new BadNumber(`${JSON.stringify(block.toString('latin1', offset, end))} is not an octal number`);
  }
  return value;
}

function parseBase256(block: Buffer, offset: number, length: number): number {
  const first = block[offset] as number;
  const negative = (first & 0x40) !== 0;
  // Of a negative number the complement is added up, so that a long row of 0xff stays exact.
  const flip = negative ? 0xff : 0;
  let value = (first ^ flip) & 0x7f;
  for (let at = offset + 1; at < offset + length; at++) {
    value = value * 256 + ((block[at] as number) ^ flip);
    if (value > Number.MAX_SAFE_INTEGER) {
      throw new BadNumber(`0x${block.toString('hex', offset, offset + length)} is beyond what can be handled`);
    }
  }
  return negative ? -value - 1 : value;
}

/** Digits only, exact in a double. Throws BadNumber. */
export function parseDecimal(text: string): number {
  if (!/^\d{1,16}$/.test(text)) throw new BadNumber(`${JSON.stringify(text.slice(0, 40))} is not a decimal number`);
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new BadNumber(`${text} is beyond what can be handled`);
  return value;
}

/** A PAX time: seconds since 1970 with an optional sign and fraction; what is finer than a nanosecond is cut off. Throws BadNumber. */
export function parseTime(text: string): { seconds: number; nanoseconds: number } {
  const match = /^(-?)(\d{1,16})(?:\.(\d*))?$/.exec(text);
  if (match === null) throw new BadNumber(`${JSON.stringify(text.slice(0, 40))} is not a time`);
  const whole = parseDecimal(match[2] as string);
  const fraction = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] === '') return { seconds: whole, nanoseconds: fraction };
  // The nanoseconds always count forwards: -1.5 is -2 seconds and 500,000,000 nanoseconds.
  return fraction === 0
    ? { seconds: whole === 0 ? 0 : -whole, nanoseconds: 0 }
    : { seconds: -whole - 1, nanoseconds: 1_000_000_000 - fraction };
}

function isPadding(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0;
}
