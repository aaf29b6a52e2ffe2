import { expect, test } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { ReportQueue } from './report.ts';

const report = (name: string, first: boolean) => ({
  image: digestOf(Buffer.from(name)),
  chunkSize: 4096,
  first,
  complete: true,
  digests: [],
  chunks: [],
  milliseconds: [],
});

test('what does not fit is dropped, and what follows of its run becomes the beginning', () => {
  const queue = new ReportQueue();
  for (let i = 0; i < 40; i++) queue.add(report(`image ${i}`, true));
  expect(queue.dropped).toBe(8);
  for (let i = 0; i < 32; i++) queue.done();
  expect(queue.next).toBeUndefined();
  queue.add(report('image 39', false));
  queue.add(report('image 39', false));
  queue.add(report('image 0', false));
  expect(queue.next?.first).toBe(true);
  queue.done();
  expect(queue.next?.first).toBe(false);
  queue.done();
  expect(queue.next?.first).toBe(false);
});
