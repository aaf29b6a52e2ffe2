import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { Batch, Incoming } from './incoming.ts';

const bytes = randomBytes(1_000);
const digest = digestOf(bytes);
const coming = (chunk: number, size = 1_000) => ({ digest, chunk, bytes: size });

test('whoever claims a chunk gets it, and keeps it', async () => {
  const incoming = new Incoming();
  const batch = new Batch([coming(0), coming(1), coming(2)]);
  using _added = incoming.add(batch);
  const claims = [incoming.claim(digest, 1, {}), incoming.claim(digest, 1, {})];
  expect(batch.deliver(digest, 0, bytes)).toBe(false);
  expect(batch.deliver(digest, 1, bytes)).toBe(true);
  expect(await Promise.all(claims)).toEqual([bytes, bytes]);
  // Neither what has come nor what never was announced.
  expect([incoming.claim(digest, 0, {}), incoming.claim(digest, 7, {})]).toEqual([undefined, undefined]);
});

test('what does not come is given up at once, also when the stream ends', async () => {
  const incoming = new Incoming();
  const batch = new Batch([coming(0), coming(1)]);
  const added = incoming.add(batch);
  const [lost, ended] = [incoming.claim(digest, 0, {}), incoming.claim(digest, 1, {})];
  batch.lose(digest, 0);
  expect(await lost).toBeUndefined();
  added[Symbol.dispose]();
  expect(await ended).toBeUndefined();
  expect(incoming.claim(digest, 1, {})).toBeUndefined();
});

test('what is far away is not worth waiting for, and nobody waits for ever', async () => {
  const batch = new Batch([coming(0), coming(1, 1_000_000_000)]);
  expect(batch.claim(digest, 1, {})).toBeUndefined();
  const controller = new AbortController();
  const claim = batch.claim(digest, 0, { signal: controller.signal });
  controller.abort(new Error('enough'));
  await expect(claim).rejects.toThrow('enough');
});
