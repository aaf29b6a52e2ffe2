import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { until } from '#core/abort.ts';
import { digestOf } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { silentLogger } from '#core/log.ts';
import { quietStore, recordOf, temporaryRoot } from '../catalog/testing.ts';
import type { WatchedTag } from '../catalog/watched-tags.ts';
import type { ConversionRequest, ConversionResult, ConvertProgress } from '../converter/request.ts';
import { ConversionQueue, type QueueParts, type TagTable } from './queue.ts';
import { isPermanent, retryDelay } from './queue-retry.ts';

const digest = (text: string) => digestOf(Buffer.from(text));
const source = (name: string) => `docker://registry.test/${name}:1`;

class Table implements TagTable {
  readonly tags = new Map<string, WatchedTag>();
  put(tag: WatchedTag): void {
    this.tags.set(tag.source, tag);
  }
  remove(name: string): void {
    this.tags.delete(name);
  }
  all(): WatchedTag[] {
    return [...this.tags.values()];
  }
}

interface Running {
  readonly request: ConversionRequest;
  readonly signal: AbortSignal;
  readonly progress: (progress: ConvertProgress) => void;
  readonly finish: () => void;
  readonly fail: (error: unknown) => void;
}

/** A queue whose conversions a test ends by hand. */
function start(change: Partial<QueueParts> = {}, table: TagTable = new Table()) {
  const running: Running[] = [];
  const queue = new ConversionQueue({
    tags: table,
    workers: 2,
    retry: { first: 20, most: 40 },
    leftAlone: async () => undefined,
    log: silentLogger(),
    convert: async (request, { signal, onProgress }) => {
      const { promise, resolve, reject } = Promise.withResolvers<ConversionResult>();
      const image = recordOf(request.source, digest('index'), { sourceDigest: digest(`image of ${request.source}`) });
      const entry: Running = {
        request,
        signal,
        progress: onProgress,
        finish: () => resolve({ image, unchanged: false }),
        fail: reject,
      };
      running.push(entry);
      signal.addEventListener('abort', () => reject(signal.reason));
      return await promise.finally(() => running.splice(running.indexOf(entry), 1));
    },
    ...change,
  });
  onTestFinished(() => queue[Symbol.asyncDispose]());
  queue.start();
  const state = (name: string) => queue.get(source(name))?.state;
  const reaches = async (name: string, wanted: string) =>
    await until(`${name} to be ${wanted}`, () => state(name) === wanted, { interval: 2, timeout: 5000 });
  return { queue, running, table, state, reaches };
}

describe('ConversionQueue', () => {
  it('leaves a worker to the images of other registries', async () => {
    const { queue, running } = start({ registries: 2 });
    const other = source('other').replace('registry.test', 'other.test');
    for (const name of ['a', 'b']) queue.offer(source(name), digest(name));
    queue.offer(other, digest('other'));
    await until('two conversions', () => running.length === 2, { interval: 1 });
    expect(running.map(({ request }) => request.source)).toEqual([source('a'), other]);
    running[1]?.finish();
    await until('the end of one', () => queue.get(other)?.state === 'ready', { interval: 1 });
    expect(running).toHaveLength(1);
    running[0]?.finish();
    await until('the next', () => running[0]?.request.source === source('b'), { interval: 1 });
  });

  it('converts so many at the same time, in order, each once', async () => {
    const { queue, running, state } = start();
    for (const name of ['a', 'b', 'c', 'a']) queue.offer(source(name), digest(name));
    await turn();
    expect(running.map(({ request }) => request.source)).toEqual([source('a'), source('b')]);
    expect([state('a'), state('b'), state('c')]).toEqual(['converting', 'converting', 'waiting']);
    running[0]?.finish();
    await until('the third', () => running.some(({ request }) => request.source === source('c')));
    expect(queue.get(source('a'))).toMatchObject({ state: 'ready', imageDigest: digest(`image of ${source('a')}`) });
    queue.offer(source('a'), digest('a'));
    await turn();
    expect(state('a')).toBe('ready');
    expect(queue.count('converting')).toBe(2);
  });

  it('shows how far a conversion is', async () => {
    const { queue, running } = start();
    queue.offer(source('a'), digest('a'));
    await turn();
    const progress = {
      phase: 'fetch',
      doneBytes: 1,
      totalBytes: 2,
      layer: 0,
      layers: 1,
      entries: 0,
      newObjects: 0,
      newBytes: 0,
    } as const;
    running[0]?.progress(progress);
    expect(queue.list()).toMatchObject([{ state: 'converting', progress }]);
  });

  it('tries again what failed, later each time, and what cannot be converted only when it moves', async () => {
    const { queue, running, reaches } = start();
    queue.offer(source('a'), digest('a'));
    for (const attempts of [1, 2]) {
      await reaches('a', 'converting');
      await until('the conversion', () => running.length === 1, { interval: 2 });
      running[0]?.fail(new GearError('unavailable', 'down'));
      await until('the failure', () => queue.get(source('a'))?.attempts === attempts, { interval: 2 });
      expect(queue.get(source('a'))).toMatchObject({ error: 'down' });
    }
    await until('the conversion', () => running.length === 1, { interval: 2 });
    running[0]?.fail(new GearError('unsupported', 'for windows'));
    await reaches('a', 'failed');
    expect(queue.get(source('a'))).toMatchObject({ error: 'for windows', retryAt: undefined });
    queue.offer(source('a'), digest('a'));
    await turn();
    expect(running).toHaveLength(0);
    queue.offer(source('a'), digest('moved'));
    await reaches('a', 'converting');
  });

  it('tries again before its time what failed, when it is told to', async () => {
    const { queue, running, reaches } = start({ retry: { first: 600_000, most: 600_000 } });
    for (const name of ['a', 'b']) queue.offer(source(name), digest(name));
    await until('both', () => running.length === 2, { interval: 2 });
    running[0]?.fail(new GearError('unavailable', 'down'));
    running.at(-1)?.fail(new GearError('unsupported', 'for windows'));
    for (const name of ['a', 'b']) await reaches(name, 'failed');
    queue.retry((name) => name !== source('a'));
    await turn();
    expect(running).toHaveLength(0);
    queue.retry(() => true);
    await reaches('a', 'converting');
    expect(queue.get(source('a'))).toMatchObject({ attempts: 1 });
    expect(queue.get(source('b'))).toMatchObject({ state: 'failed' });
  });

  it('converts again what moved while it was converted', async () => {
    const { queue, running, reaches } = start();
    queue.offer(source('a'), digest('a'));
    await reaches('a', 'converting');
    queue.offer(source('a'), digest('moved'));
    await until('the conversion', () => running.length === 1);
    const [first] = running;
    first?.finish();
    await until('the second', () => running.length === 1 && running[0] !== first);
    running[0]?.finish();
    await reaches('a', 'ready');
    expect(queue.get(source('a'))?.digest).toBe(digest('moved'));
  });

  it('leaves alone what is to be left alone, and says why', async () => {
    const { queue, running, reaches } = start({ leftAlone: async () => 'a Gear image' });
    queue.offer(source('a-gear'), digest('a'));
    await reaches('a-gear', 'ignored');
    expect(queue.get(source('a-gear'))?.error).toBe('a Gear image');
    expect(await queue.want(source('a-gear'), digest('a'), AbortSignal.timeout(1000))).toBe('ignored');
    expect(running).toHaveLength(0);
  });

  it('goes on after a restart with what was waiting or under way', async () => {
    await using root = await temporaryRoot();
    {
      await using store = await quietStore(root.path);
      const { queue, running, reaches } = start({ workers: 1 }, store.watchedTags);
      for (const name of ['a', 'b', 'c']) queue.offer(source(name), digest(name));
      await reaches('a', 'converting');
      await until('the conversion', () => running.length === 1);
      running[0]?.finish();
      await reaches('b', 'converting');
      await queue[Symbol.asyncDispose]();
    }
    await using store = await quietStore(root.path);
    const { queue, running, state } = start({}, store.watchedTags);
    await turn();
    expect([state('a'), state('b'), state('c')]).toEqual(['ready', 'converting', 'converting']);
    expect(running).toHaveLength(2);
    expect(queue.get(source('a'))?.imageDigest).toBe(digest(`image of ${source('a')}`));
    await queue[Symbol.asyncDispose]();
  });

  it('converts first what somebody waits for, pushes it nowhere, and then forgets it', async () => {
    const { queue, running, state } = start({ workers: 1 });
    for (const name of ['a', 'b']) queue.offer(source(name), digest(name));
    const wanted = queue.want(source('pulled'), digest('p'), AbortSignal.timeout(5000));
    await turn();
    running[0]?.finish();
    await until('the pull', () => running[0]?.request.source === source('pulled'));
    expect(running[0]?.request.noPush).toBe(true);
    running[0]?.finish();
    expect(await wanted).toBe('ready');
    expect(state('pulled')).toBeUndefined();
    await until('the next', () => running[0]?.request.source === source('b'));
    expect(running[0]?.request.noPush).toBe(false);
  });

  it('does not try again at every pull what has just failed', async () => {
    const { queue, running } = start({ retry: { first: 60_000, most: 60_000 } });
    const want = async () => await queue.want(source('bad'), digest('bad'), AbortSignal.timeout(5000));
    const first = want();
    await turn();
    running[0]?.fail(new GearError('corrupt', 'damaged'));
    await expect(first).rejects.toThrow('damaged');
    await expect(want()).rejects.toThrow('damaged');
    expect(running).toHaveLength(0);
  });

  it('goes on with a conversion that nobody waits for any longer', async () => {
    const { queue, running } = start();
    const patience = new AbortController();
    const wanted = queue.want(source('slow'), digest('s'), patience.signal);
    await turn();
    patience.abort(new GearError('deadline-exceeded', 'too slow'));
    await expect(wanted).rejects.toThrow('too slow');
    expect(running[0]?.signal.aborted).toBe(false);
    const again = queue.want(source('slow'), digest('s'), AbortSignal.timeout(5000));
    running[0]?.finish();
    expect(await again).toBe('ready');
  });

  it('remembers since when a tag is gone, until it comes back', async () => {
    const { queue, running, reaches } = start();
    queue.offer(source('a'), digest('a'));
    await reaches('a', 'converting');
    expect(queue.remove(source('a'))).toBe(false);
    running[0]?.finish();
    await reaches('a', 'ready');
    queue.gone(source('a'), 5);
    queue.gone(source('a'), 7);
    expect(queue.get(source('a'))?.goneAt).toBe(5);
    queue.offer(source('a'), digest('a'));
    expect(queue.get(source('a'))?.goneAt).toBeUndefined();
    expect(queue.remove(source('a'))).toBe(true);
    expect(queue.list()).toEqual([]);
  });
});

describe('retrying', () => {
  it('waits twice as long each time, up to a limit, and not for ever', () => {
    const policy = { first: 1000, most: 10_000 };
    expect([1, 2, 3, 4, 5, 6].map((attempts) => retryDelay(attempts, policy, 0.5))).toEqual([
      1000, 2000, 4000, 8000, 10_000, 10_000,
    ]);
    expect(retryDelay(1, policy, 0)).toBe(800);
    expect(retryDelay(50, policy)).toBeUndefined();
    expect(isPermanent(new GearError('unsupported', ''))).toBe(true);
    expect(isPermanent(new GearError('unavailable', ''))).toBe(false);
    expect(isPermanent(new Error('odd'))).toBe(false);
  });
});
