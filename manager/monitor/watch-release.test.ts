import { describe, expect, it, onTestFinished } from 'vitest';
import { type Digest, digestOf } from '#core/digest.ts';
import { silentLogger } from '#core/log.ts';
import { addImage, quietStore, randomContents, temporaryRoot } from '../catalog/testing.ts';
import type { WatchedTag } from '../catalog/watched-tags.ts';
import { RegistryClient } from '../registry/client.ts';
import { startTestRegistry } from '../registry/client-testing.ts';
import { ConversionQueue } from './queue.ts';
import { releaseTags } from './watch-release.ts';

const signal = AbortSignal.timeout(60_000);
const LATER = Date.now() + 1_000_000;

async function start() {
  const stack = new AsyncDisposableStack();
  onTestFinished(() => stack.disposeAsync());
  const registry = stack.use(await startTestRegistry());
  const { path } = stack.use(await temporaryRoot());
  const store = stack.use(await quietStore(path));
  const client = stack.use(new RegistryClient({ access: { insecureRegistries: [registry.host] }, patience: 1000 }));
  const source = `docker://${registry.host}/team/app:1`;
  const destination = `docker://${registry.host}/team/app-gear:1`;
  const onNodes = new Set<Digest>();
  const tag = (change: Partial<WatchedTag>): ConversionQueue => {
    const rest = {
      attempts: 0,
      error: '',
      retryAt: undefined,
      changedAt: 0,
      goneAt: undefined,
      imageDigest: undefined,
    };
    const known = {
      source,
      origin: 'watch',
      state: 'ready',
      digest: digestOf(Buffer.from('d')),
      ...rest,
      ...change,
    } as const;
    store.watchedTags.put(known);
    const refuse = async () => {
      throw new Error('not here');
    };
    const parts = { tags: store.watchedTags, convert: refuse, leftAlone: refuse, workers: 1, log: silentLogger() };
    return new ConversionQueue(parts);
  };
  const release = async (queue: ConversionQueue, keep = 0, now = LATER) => {
    const isOnNode = (index: Digest) => onNodes.has(index);
    const parts = { store, queue, client, isOnNode, keep, log: silentLogger() };
    await releaseTags(parts, { host: registry.host, prefix: '' }, signal, now);
  };
  const left = () => store.list(undefined, 100).map(({ record }) => record.indexDigest);
  return { registry, store, source, destination, onNodes, tag, release, left };
}

describe('releaseTags', () => {
  it('forgets what a deleted tag held, also in the registry, but nothing of others', async () => {
    const { registry, store, source, destination, tag, release, left } = await start();
    const gearDigest = registry.put('team/app-gear', '1', 'gear');
    await addImage(store, source, randomContents(2), { destination, gearDigest });
    const elsewhere = await addImage(store, source, randomContents(1), { destination: 'oci:/somewhere:1' });
    const other = await addImage(store, `docker://${registry.host}/other:1`, randomContents(1));
    const queue = tag({ goneAt: Date.now() });
    await release(queue, 2_000_000);
    expect(left()).toHaveLength(3);
    await release(queue);
    expect(left().sort()).toEqual([elsewhere.indexDigest, other.indexDigest].sort());
    expect(registry.repositories.get('team/app-gear')?.size).toBe(0);
    expect(queue.list()).toEqual([]);
    expect(store.watchedTags.all()).toEqual([]);
  });

  it('keeps everything of a tag that is there after all, or that cannot be looked at', async () => {
    const { registry, store, source, destination, tag, release, left } = await start();
    await addImage(store, source, randomContents(2), { destination });
    const queue = tag({ goneAt: 1 });
    registry.intercept = (_request, response) => {
      response.writeHead(503).end();
      return true;
    };
    await expect(release(queue)).rejects.toMatchObject({ code: 'unavailable' });
    registry.intercept = undefined;
    const digest = registry.put('team/app', '1');
    await release(queue);
    expect(left()).toHaveLength(1);
    expect(queue.list()).toMatchObject([{ goneAt: undefined, digest }]);
  });

  it('forgets the versions before the one that a tag names, when no node has them any longer', async () => {
    const { store, source, destination, onNodes, tag, release, left } = await start();
    const [old, older] = [randomContents(1), randomContents(1)];
    const { indexDigest } = await addImage(store, source, old, { destination });
    await addImage(store, source, older, { destination });
    const now = await addImage(store, source, randomContents(2), { destination });
    const queue = tag({ imageDigest: now.sourceDigest });
    onNodes.add(indexDigest);
    await release(queue);
    expect(left().sort()).toEqual([indexDigest, now.indexDigest].sort());
    onNodes.clear();
    await release(queue);
    expect(left()).toEqual([now.indexDigest]);
  });

  it('does not delete a Gear image that another tag names too, or that is not the one it made', async () => {
    const { registry, store, source, destination, tag, release } = await start();
    const gearDigest = registry.put('team/app-gear', '1', 'gear');
    registry.put('team/app-gear', 'latest', 'gear');
    await addImage(store, source, randomContents(1), { destination, gearDigest });
    const latest = `docker://${registry.host}/team/app-gear:latest`;
    await addImage(store, `docker://${registry.host}/team/app:latest`, randomContents(1), {
      destination: latest,
      gearDigest,
    });
    await release(tag({ goneAt: 1 }));
    expect(registry.repositories.get('team/app-gear')?.size).toBe(2);
    expect(registry.requests.filter((request) => request.startsWith('DELETE'))).toEqual([]);
  });
});
