import { expect, test } from 'vitest';
import { silentLogger } from '#core/log.ts';
import { type CacheItem, Evictor, type Shelf } from './evictor.ts';

class Items implements Shelf {
  readonly all = new Map<string, { bytes: number; usedAt: number; pinned: boolean }>();

  add(name: string, usedAt: number, pinned = false, bytes = 10): void {
    this.all.set(name, { bytes, usedAt, pinned });
  }

  async *items(): AsyncGenerator<CacheItem> {
    for (const [name, { bytes, usedAt, pinned }] of [...this.all]) {
      yield pinned ? { bytes, usedAt } : { bytes, usedAt, evict: () => this.#evict(name) };
    }
  }

  // What was found unused may be in use by now.
  #evict(name: string): boolean {
    if (this.all.get(name)?.pinned === true) return false;
    return this.all.delete(name);
  }
}

function filled(): Items {
  const items = new Items();
  for (let i = 0; i < 10; i++) items.add(`i${i}`, 100 - i, i === 9);
  return items;
}

test('beyond the limit the least recently used go, and never what is in use', async () => {
  const items = filled();
  const evictor = new Evictor([items], 50, silentLogger());
  expect(evictor.bytes).toBeUndefined();
  await evictor.count();
  await expect.poll(() => evictor.bytes).toBe(40);
  // i9 is the oldest of all and pinned.
  expect([...items.all.keys()]).toEqual(['i0', 'i1', 'i2', 'i9']);
  expect([evictor.evictedObjects, evictor.evictedBytes]).toEqual([6, 60]);
  evictor.added(5);
  expect(evictor.bytes).toBe(45);
  evictor.limit = 1;
  await expect.poll(() => [...items.all.keys()]).toEqual(['i9']);
});

test('room is made as far as there is any', async () => {
  const items = filled();
  const evictor = new Evictor([items, new Items()], 0, silentLogger());
  expect(await evictor.makeRoom(25)).toBe(30);
  expect(items.all.size).toBe(7);
  expect(await evictor.makeRoom(1000)).toBe(60);
  expect(await evictor.makeRoom(1)).toBe(0);
  expect([...items.all.keys()]).toEqual(['i9']);
});

test('what is added while an eviction looks around is not forgotten', async () => {
  const items = filled();
  const evictor = new Evictor([items], 100, silentLogger());
  await evictor.count();
  items.add('a', 1_000, false, 50);
  evictor.added(50);
  // The count has passed the place where these come.
  for (let i = 0; i < 5; i++) {
    await Promise.resolve();
    items.add(`b${i}`, 2_000, false, 20);
    evictor.added(20);
  }
  await expect.poll(() => [...items.all.values()].reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(100);
  expect(items.all.has('i9')).toBe(true);
});

test('a cache that is full of what is in use is not searched again and again', async () => {
  let searches = 0;
  const busy: Shelf = {
    async *items() {
      searches++;
      yield { bytes: 100, usedAt: 1 };
    },
  };
  const evictor = new Evictor([busy], 10, silentLogger());
  await evictor.count();
  await expect.poll(() => searches).toBe(2);
  for (let i = 0; i < 20; i++) {
    evictor.added(1);
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(searches).toBe(2);
});
