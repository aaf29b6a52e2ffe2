import { describe, expect, it } from 'vitest';
import { Slots } from './slots.ts';

describe('Slots', () => {
  it('lets so many in at a time, in order', async () => {
    const slots = new Slots(2);
    const seen: number[] = [];
    let working = 0;
    let most = 0;
    await Promise.all(
      [1, 2, 3, 4, 5].map(async (n) => {
        using _slot = await slots.acquire();
        most = Math.max(most, ++working);
        seen.push(n);
        await new Promise((resolve) => setTimeout(resolve, 5));
        working--;
      }),
    );
    expect(most).toBe(2);
    expect(seen).toEqual([1, 2, 3, 4, 5]);
  });

  it('loses no slot to one who gives up waiting', async () => {
    const slots = new Slots(1);
    const controller = new AbortController();
    {
      using _first = await slots.acquire();
      const waiting = slots.acquire({ signal: controller.signal });
      controller.abort(new Error('enough'));
      await expect(waiting).rejects.toThrow('enough');
    }
    using _second = await slots.acquire({ signal: AbortSignal.timeout(1000) });
  });

  it('passes a slot on when giving up and getting it meet', async () => {
    const slots = new Slots(1);
    const first = await slots.acquire();
    const controller = new AbortController();
    const second = slots.acquire({ signal: controller.signal });
    controller.abort(new Error('enough'));
    first[Symbol.dispose]();
    await expect(second).rejects.toThrow('enough');
    using _third = await slots.acquire({ signal: AbortSignal.timeout(1000) });
  });
});
