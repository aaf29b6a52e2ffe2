import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { hostOf, Transfers } from './transfers.ts';

const FACTS = { peer: '192.0.2.1:4000', what: 'objects' } as const;

describe('Transfers', () => {
  it('tells of what moves bytes, the fastest first', () => {
    const transfers = new Transfers();
    using _idle = transfers.open(FACTS);
    using slow = transfers.open({ ...FACTS, what: 'slow' });
    using fast = transfers.open({ ...FACTS, what: 'fast' });
    slow.received(10);
    fast.sent(1000);
    fast.sent(500);
    const list = transfers.list();
    expect(list).toMatchObject([
      { what: 'fast', sent: 1500, received: 0, ended: false },
      { what: 'slow', sent: 0, received: 10, ended: false },
    ]);
    expect(list[0]?.rate).toBeGreaterThan(list[1]?.rate ?? 0);
  });

  it('measures the rate over the last seconds', () => {
    const transfers = new Transfers();
    using transfer = transfers.open(FACTS);
    transfer.sent(3000);
    const now = performance.now();
    const rates = [0, 1000, 2500].map((later) => transfers.list(now + later)[0]?.rate ?? -1);
    // Of the first moment less than a second is known; a second later the bytes are spread over it; then nothing has come for long.
    expect(rates[0]).toBeGreaterThan(3000);
    expect(rates[1]).toBeGreaterThan(1400);
    expect(rates[1]).toBeLessThan(3100);
    expect(rates[2]).toBe(0);
  });

  it('tells a moment longer of what has ended or moves nothing, and keeps few of these', () => {
    const transfers = new Transfers();
    using idle = transfers.open({ ...FACTS, what: 'idle' });
    idle.sent(1);
    for (let at = 0; at < 200; at++) {
      using ended = transfers.open(FACTS);
      ended.sent(1);
    }
    const now = performance.now();
    const list = transfers.list(now);
    expect(list).toHaveLength(51);
    expect(list.map(({ ended }) => ended)).toEqual([false, ...Array(50).fill(true)]);
    expect(list.at(-1)?.rate).toBe(0);
    expect(transfers.list(now + 6000)).toEqual([]);
    idle.sent(1);
    expect(transfers.list()[0]).toMatchObject({ what: 'idle', sent: 2 });
  });

  it('counts a stream on its way, also one that breaks', async () => {
    const transfers = new Transfers();
    const body = transfers.sending(Readable.from([Buffer.alloc(3), Buffer.alloc(4)]), FACTS);
    expect((await Array.fromAsync(body)).map(({ length }) => length)).toEqual([3, 4]);
    async function* broken() {
      yield Buffer.alloc(5);
      throw new Error('gone');
    }
    const second = transfers.sending(Readable.from(broken(), { objectMode: false }), FACTS);
    await expect(Array.fromAsync(second)).rejects.toThrow('gone');
    expect(transfers.list().map(({ sent, ended }) => [sent, ended])).toEqual([
      [7, true],
      [5, true],
    ]);
  });

  it.each([
    ['192.0.2.1:4242', '192.0.2.1'],
    ['[2001:db8::1]:4242', '2001:db8::1'],
    ['::ffff:192.0.2.1:4242', '192.0.2.1'],
  ])('knows the host of %s', (peer, host) => {
    expect(hostOf(peer)).toBe(host);
  });
});
