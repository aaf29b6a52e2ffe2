import {
  appendFileSync,
  chmodSync,
  existsSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { describe, expect, it } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { encodeIndex } from '#core/index/encode.ts';
import type { ImageRecord } from '../store/record.ts';
import { collect, randomObject } from '../store/testing.ts';
import type { Store } from './store.ts';
import { addImage, addObjects, quietStore, randomContents, recordOf, temporaryRoot, treeOf } from './testing.ts';

const ARM = { os: 'linux', architecture: 'arm64', variant: 'v8' };

/** All that a store answers about its images. */
function answers(store: Store): unknown {
  const images = store.list(undefined, 1000);
  return {
    images,
    layers: images.flatMap(({ record }) => record.layers).map((layer) => store.resolveLayer(layer.diffId)),
    resolved: images.map(({ record }) => store.resolve(record.source, record.platform)),
    totals: store.totals(),
  };
}

/** How many of the contents the store has. (To ask what is missing would be a claim.) */
async function present(store: Store, contents: readonly Buffer[]): Promise<number> {
  const sizes = await Promise.all(contents.map(async (bytes) => await store.objects.size(digestOf(bytes))));
  return sizes.filter((size) => size !== undefined).length;
}

describe('putting', () => {
  it('refuses an index whose objects are not all there, naming one', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const contents = randomContents(3);
    await addObjects(store, contents.slice(0, 2));
    const lacking = digestOf(contents[2] as Buffer);
    const putting = store.putIndex(encodeIndex(treeOf(contents)));
    await expect(putting).rejects.toMatchObject({
      code: 'failed-precondition',
      message: expect.stringContaining(lacking),
    });
    expect(store.totals().indexes).toBe(0);
  });

  it('refuses an index that says another size than the object has', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const contents = randomContents(1);
    await addObjects(store, contents);
    const tree = treeOf(contents);
    Object.assign(tree.root.children.get('file-0') as object, { size: 5 });
    await expect(store.putIndex(encodeIndex(tree))).rejects.toMatchObject({ code: 'failed-precondition' });
  });

  it('refuses what is no index', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    await expect(store.putIndex(Buffer.from('nonsense'))).rejects.toMatchObject({ code: 'corrupt' });
    expect(readdirSync(store.layout.indexes)).toEqual([]);
  });

  it('refuses an image whose indexes are not there', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const { digest } = randomObject(5);
    await expect(store.putImage(recordOf('docker://a', digest))).rejects.toMatchObject({
      code: 'failed-precondition',
      message: expect.stringContaining(digest),
    });
    expect(readdirSync(store.layout.images)).toEqual([]);
  });

  it('gives an index back as it was, and puts it once', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const contents = randomContents(10);
    await addObjects(store, contents);
    const bytes = encodeIndex(treeOf(contents));
    const [digest, again] = await Promise.all([store.putIndex(bytes), store.putIndex(bytes)]);
    expect([digest, again]).toEqual([digestOf(bytes), digestOf(bytes)]);
    expect(await store.indexes.read(digest)).toEqual(bytes);
    expect(await collect(store.indexes.pieces(digest))).toEqual(bytes);
    expect(store.totals().indexes).toBe(1);
    expect(statSync(store.layout.index(digest)).mode & 0o7777).toBe(0o444);
  });
});

describe('finding', () => {
  it('resolves by name of source and Gear image, and by the digest of either', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const gearDigest = digestOf(Buffer.from('gear'));
    const image = await addImage(store, 'docker://nginx', randomContents(2), {
      destination: 'docker://localhost:5000/nginx-gear:1',
      gearDigest,
    });
    const words = ['nginx', 'docker.io/library/nginx:latest', 'localhost:5000/nginx-gear:1', `sha256:${gearDigest}`];
    for (const word of [...words, image.sourceDigest]) expect(store.resolve(word)).toEqual(image);
    expect(() => store.resolve('nginx-gear')).toThrow(expect.objectContaining({ code: 'not-found' }));
    expect(() => store.resolve('oci:')).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });

  it('chooses by platform, and says which there are', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const amd = await addImage(store, 'docker://app', randomContents(1));
    const arm = await addImage(store, 'docker://app', randomContents(1), {
      platform: ARM,
      convertedAt: amd.convertedAt + 1,
    });
    expect(store.resolve('app', ARM)).toEqual(arm);
    expect(store.resolve('app', { ...amd.platform })).toEqual(amd);
    expect(() => store.resolve('app', { ...ARM, architecture: 's390x' })).toThrow(/linux\/arm64.*linux\/s390x/);
  });

  it('follows a tag that moved, and still knows the old digest', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const old = await addImage(store, 'docker://app', randomContents(1));
    const now = await addImage(store, 'docker://app', randomContents(1), { convertedAt: old.convertedAt + 1 });
    expect(store.resolve('app')).toEqual(now);
    expect(store.resolve(old.sourceDigest)).toEqual(old);
    expect(store.list(undefined, 10)).toHaveLength(2);
  });

  it('finds layers by blob and by diff id', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const { layers } = await addImage(store, 'docker://app', randomContents(1));
    const [layer] = layers;
    expect(store.resolveLayer(layer!.blobDigest)).toEqual(layer);
    expect(store.resolveLayer(layer!.diffId)).toEqual(layer);
    expect(() => store.resolveLayer(layer!.indexDigest)).toThrow(expect.objectContaining({ code: 'not-found' }));
  });

  it('lists page by page, the last one first', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const images: ImageRecord[] = [];
    for (let at = 0; at < 7; at++) {
      images.unshift(
        await addImage(store, `docker://app:${at}`, randomContents(1), { convertedAt: 1000 + Math.floor(at / 3) }),
      );
    }
    const listed: ImageRecord[] = [];
    let after: { convertedAt: number; id: string } | undefined;
    for (;;) {
      const page = store.list(after, 2);
      listed.push(...page.map(({ record }) => record));
      const last = page.at(-1);
      if (last === undefined) break;
      after = { convertedAt: last.record.convertedAt, id: last.id };
    }
    expect(listed.map(({ convertedAt }) => convertedAt)).toEqual(images.map(({ convertedAt }) => convertedAt));
    expect(new Set(listed.map(({ source }) => source)).size).toBe(7);
  });
});

describe('deleting', () => {
  it('frees exactly what only this image used', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const [shared, mine, others] = [randomContents(20), randomContents(30), randomContents(10)];
    const kept = await addImage(store, 'docker://kept', [...shared, ...others]);
    await addImage(store, 'docker://gone', [...shared, ...mine]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const freed = await store.deleteImages('gone');
    const bytes = mine.reduce((sum, content) => sum + content.length, 0);
    expect(freed).toEqual({ indexes: 2, objects: 30, bytes });
    expect(await store.objects.missing(mine.map(digestOf))).toHaveLength(30);
    expect(await store.objects.missing([...shared, ...others].map(digestOf))).toEqual([]);
    expect(await store.indexes.read(kept.indexDigest)).toBeDefined();
    expect(() => store.resolve('gone')).toThrow(expect.objectContaining({ code: 'not-found' }));
    await expect(store.deleteImages('gone')).rejects.toMatchObject({ code: 'not-found' });
  });

  it('takes objects that no index ever named only when everything is looked at, and not before their time', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const [old, young] = [randomContents(5), randomContents(5)];
    await addImage(store, 'docker://app', randomContents(5));
    await addObjects(store, old);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await using batch = store.objects.batch();
    for (const bytes of young) await batch.addBytes(bytes);
    await batch.commit();
    expect(await store.collect({ everything: false })).toMatchObject({ objects: 0 });
    expect(await store.collect({ everything: true })).toMatchObject({ objects: 5 });
    expect(await store.objects.missing(young.map(digestOf))).toEqual([]);
  });

  it('never takes what a conversion beside it has found', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const contents = randomContents(300);
    for (let round = 0; round < 5; round++) {
      await addImage(store, 'docker://old', contents, { convertedAt: round });
      await new Promise((resolve) => setTimeout(resolve, 10));
      const convert = async () => {
        using _lease = store.openLease();
        await addImage(store, `docker://new:${round}`, contents);
      };
      await Promise.all([store.deleteImages('old'), convert(), store.collect({ everything: true })]);
      expect(await present(store, contents)).toBe(300);
      const image = store.resolve(`new:${round}`);
      expect(await store.indexes.read(image.indexDigest)).toBeDefined();
      await new Promise((resolve) => setTimeout(resolve, 10));
      await store.deleteImages(`new:${round}`);
      expect(await present(store, contents)).toBe(0);
    }
  });
});

describe('opening', () => {
  it('makes the same catalogue again: when told to, when it is missing, damaged, or of another version', async () => {
    await using root = await temporaryRoot();
    let before: unknown;
    const catalog = `${root.path}/catalog.sqlite`;
    {
      await using store = await quietStore(root.path);
      for (let at = 0; at < 5; at++)
        await addImage(store, `docker://app:${at}`, randomContents(20), { convertedAt: at });
      before = answers(store);
    }
    const damages = [
      () => {},
      () => rmSync(catalog),
      () => writeFileSync(catalog, 'not a database'),
      () => writeFileSync(catalog, Buffer.concat([Buffer.from('SQLite format 3\0'), Buffer.alloc(8000, 7)])),
    ];
    for (const damage of damages) {
      damage();
      await using store = await quietStore(root.path);
      expect(answers(store)).toEqual(before);
    }
    await using store = await quietStore(root.path, { rebuild: true });
    expect(answers(store)).toEqual(before);
  });

  it('notices what was added to, and taken from, the files', async () => {
    await using root = await temporaryRoot();
    const names = ['docker://one', 'docker://two'];
    let layout: Store['layout'];
    {
      await using store = await quietStore(root.path);
      layout = store.layout;
      for (const name of names) await addImage(store, name, randomContents(2));
    }
    const [first] = readdirSync(layout.images).sort();
    rmSync(`${layout.images}/${first}`);
    // Longer ago than the grace.
    await new Promise((resolve) => setTimeout(resolve, 20));
    await using store = await quietStore(root.path);
    expect(store.totals()).toMatchObject({ images: 1, indexes: 4 });
    expect(await store.collect({ everything: true })).toMatchObject({ indexes: 2, objects: 2 });
  });

  it('is refused while another has it, by name', async () => {
    await using root = await temporaryRoot();
    {
      await using _store = await quietStore(root.path);
      await expect(quietStore(root.path)).rejects.toMatchObject({
        code: 'failed-precondition',
        message: expect.stringContaining(`process ${process.pid}`),
      });
    }
    await using _again = await quietStore(root.path);
  });

  it('empties the folders for temporary files', async () => {
    await using root = await temporaryRoot();
    {
      await using store = await quietStore(root.path);
      writeFileSync(`${store.layout.tmp}/left`, 'x');
      writeFileSync(`${store.layout.scratch}/left`, 'x');
      writeFileSync(`${store.layout.images}/.tmp-1-2`, 'x');
    }
    await using store = await quietStore(root.path);
    const { tmp, scratch, images } = store.layout;
    expect([tmp, scratch, images].map((path) => readdirSync(path))).toEqual([[], [], []]);
  });

  it('collects nothing while an index cannot be read', async () => {
    await using root = await temporaryRoot();
    let path: string;
    const contents = randomContents(3);
    {
      await using store = await quietStore(root.path);
      const { indexDigest } = await addImage(store, 'docker://app', contents);
      path = store.layout.index(indexDigest);
    }
    chmodSync(path, 0o644);
    appendFileSync(path, 'x');
    {
      await using store = await quietStore(root.path, { rebuild: true });
      expect(await store.collect({ everything: true })).toEqual({ indexes: 0, objects: 0, bytes: 0 });
      expect(await store.objects.missing(contents.map(digestOf))).toEqual([]);
      const { problems, images } = await store.verify();
      expect(problems).toHaveLength(1);
      expect(images).toEqual(['docker://app']);
      expect(existsSync(path)).toBe(false);
    }
  });
});

describe('verifying', () => {
  it('finds and removes what is damaged, and says whose it was', async () => {
    await using root = await temporaryRoot();
    await using store = await quietStore(root.path);
    const contents = randomContents(5);
    await addImage(store, 'docker://whole', randomContents(5));
    await addImage(store, 'docker://hurt', contents);
    expect(await store.verify()).toMatchObject({ objects: 10, indexes: 4, problems: [], images: [] });
    const path = store.layout.object(digestOf(contents[0] as Buffer));
    chmodSync(path, 0o644);
    writeFileSync(path, Buffer.alloc(100));
    utimesSync(path, 1, 1);
    const { problems, images, objects } = await store.verify();
    expect([objects, images]).toEqual([9, ['docker://hurt']]);
    expect(problems.join('\n')).toMatch(/its bytes are those of sha256:.*removed/);
    expect(existsSync(path)).toBe(false);
    await addObjects(store, contents);
    expect((await store.verify()).problems).toEqual([]);
  });
});
