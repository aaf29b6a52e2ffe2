import { link, mkdir, mkdtemp, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Digest, digestOf } from '#core/digest.ts';
import { silentLogger } from '#core/log.ts';
import { currentBootId, FlushMark, readMark, writeMark } from './flush-mark.ts';
import { CacheLayout } from './layout.ts';
import { recoverCaches } from './recover.ts';

const image = digestOf(Buffer.from('image'));

async function someLayout(): Promise<CacheLayout> {
  const root = await mkdtemp(join(tmpdir(), 'gear-rec-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const layout = new CacheLayout(root);
  await recoverCaches(layout, silentLogger());
  return layout;
}

/** An object in public/ and private/, whose bytes are those of `content` or others, written so many seconds ago. */
async function put(layout: CacheLayout, content: string, { damaged = false, age = 0 } = {}): Promise<Digest> {
  const digest = digestOf(Buffer.from(content));
  const file = layout.publicFile(digest);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, damaged ? content.replace(/./g, '\0') : content);
  await utimes(file, Date.now() / 1000, Date.now() / 1000 - age);
  await mkdir(dirname(layout.privateFile(image, digest)), { recursive: true });
  await link(file, layout.privateFile(image, digest));
  return digest;
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

test('in the same run of the kernel everything is trusted', async () => {
  const layout = await someLayout();
  const digest = await put(layout, 'anything', { damaged: true });
  expect(await recoverCaches(layout, silentLogger())).toEqual({ checked: 0, dropped: 0 });
  expect(await isThere(layout.publicFile(digest))).toBe(true);
});

test('after a reboot what is not older than the mark is read again, and dropped with all its names where it is damaged', async () => {
  const layout = await someLayout();
  const flushed = await put(layout, 'flushed long ago: not even looked at', { damaged: true, age: 1000 });
  const good = await put(layout, 'written late, and whole', { age: 10 });
  const torn = await put(layout, 'written late, and torn', { damaged: true, age: 10 });
  const unpinned = await put(layout, 'in private only', { damaged: true, age: 10 });
  await rm(layout.publicFile(unpinned));
  await writeFile(join(layout.partial, '.tmp-1-2'), 'half');
  writeMark(layout.mark, { bootId: 'another run of the kernel', time: Date.now() - 500_000 });
  expect(await recoverCaches(layout, silentLogger())).toEqual({ checked: 3, dropped: 3 });
  for (const [digest, there] of [
    [flushed, true],
    [good, true],
    [torn, false],
  ] as const) {
    expect(await isThere(layout.publicFile(digest))).toBe(there);
    expect(await isThere(layout.privateFile(image, digest))).toBe(there);
  }
  expect(await isThere(layout.privateFile(image, unpinned))).toBe(false);
  expect(await isThere(join(layout.partial, '.tmp-1-2'))).toBe(false);
  // Now it is this run's.
  expect(readMark(layout.mark)?.bootId).toBe(currentBootId());
  expect(await recoverCaches(layout, silentLogger())).toEqual({ checked: 0, dropped: 0 });
});

test.each(['', 'no json', '{"bootId":5}'])('with a mark of %j nothing counts as flushed', async (content) => {
  const layout = await someLayout();
  const digest = await put(layout, 'old and torn', { damaged: true, age: 1_000_000 });
  await writeFile(layout.mark, content);
  expect(await recoverCaches(layout, silentLogger())).toEqual({ checked: 1, dropped: 2 });
  expect(await isThere(layout.publicFile(digest))).toBe(false);
});

test('the mark moves with each flush that had something to do, and back with the clock', async () => {
  const layout = await someLayout();
  const mark = new FlushMark(layout.mark, layout.paths.public);
  const before = readMark(layout.mark);
  await mark.flush();
  expect(readMark(layout.mark)).toEqual(before);
  await new Promise((resolve) => setTimeout(resolve, 150));
  mark.note();
  await mark.flush();
  const after = readMark(layout.mark);
  expect(after?.time).toBeGreaterThan(before?.time ?? 0);
  // As if the clock had been put back by an hour: what is written from now on looks older than the mark.
  writeMark(layout.mark, { bootId: currentBootId(), time: Date.now() + 3_600_000 });
  new FlushMark(layout.mark, layout.paths.public).note();
  expect(readMark(layout.mark)?.time).toBeLessThan(Date.now());
});
