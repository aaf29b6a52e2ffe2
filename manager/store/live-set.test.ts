import { describe, expect, it } from 'vitest';
import { digestToBytes } from '#core/digest.ts';
import { LiveSet } from './live-set.ts';
import { randomObject } from './testing.ts';

describe('LiveSet', () => {
  it('never loses what was added, and hardly ever finds what was not', () => {
    const added = [...Array(5000)].map(() => randomObject(8).digest);
    const others = [...Array(20_000)].map(() => randomObject(8).digest);
    const live = new LiveSet(added.length);
    live.addAll(Buffer.concat(added.map(digestToBytes)));
    expect(added.every((digest) => live.has(digest))).toBe(true);
    expect(others.filter((digest) => live.has(digest)).length).toBeLessThan(5);
  });

  it('works for none', () => {
    const live = new LiveSet(0);
    live.addAll(Buffer.alloc(0));
    expect(live.has(randomObject(8).digest)).toBe(false);
  });
});
