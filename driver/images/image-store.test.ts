import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Digest, digestOf } from '#core/digest.ts';
import { encodeDescriptor } from '#core/index/descriptor.ts';
import { encodeIndex } from '#core/index/encode.ts';
import { DEFAULT_CHUNK_SIZE, emptyDirectory, type Tree } from '#core/index/tree.ts';
import { silentLogger } from '#core/log.ts';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { nodePaths } from '../paths.ts';
import { ImageStore, type ImageStoreOptions } from './image-store.ts';

function treeWith(content: Buffer, kind: Tree['kind']): Tree {
  const root = emptyDirectory();
  const times = { mtimeSeconds: 1_700_000_000, mtimeNanoseconds: 0 };
  root.children.set('file', {
    ...{ type: 'file', mode: 0o644, uid: 0, gid: 0, ...times, xattrs: new Map() },
    ...{ size: content.length, digest: digestOf(content), chunkDigests: Buffer.alloc(0) },
  });
  return { kind, chunkSize: DEFAULT_CHUNK_SIZE, root };
}

async function setUp(kind: Tree['kind'] = 'image') {
  const folder = await temporaryFolder();
  onTestFinished(() => folder[Symbol.asyncDispose]());
  const paths = nodePaths(folder.path);
  const index = encodeIndex(treeWith(Buffer.from('content'), kind));
  const indexFile = join(folder.path, 'index');
  await writeFile(indexFile, index);
  const id = digestOf(index);
  const descriptor = encodeDescriptor({
    ...{ version: 1, index: { digest: id, size: index.length }, source: { digest: digestOf(Buffer.from('source')) } },
    ...{ chunkSize: DEFAULT_CHUNK_SIZE, entries: 2, objects: 1, bytes: 7 },
  });
  const user = join(folder.path, 'layer');
  await mkdir(user);
  const open = async (onImport?: ImageStoreOptions['onImport']) =>
    await ImageStore.open({ paths, format: 'erofs', onImport, log: silentLogger() });
  const take = async (images: ImageStore) => await images.import(descriptor, indexFile, user);
  return { paths, id, indexFile, index, user, open, take };
}

test('says what objects an image has before all of it is made, and then that it is there', async () => {
  const { paths, id, open, take } = await setUp();
  const said: { id: Digest; early: Promise<Buffer> | undefined; isThere: boolean }[] = [];
  const images = await open((image, early) => {
    const table = early === undefined ? undefined : readFile(early);
    said.push({ id: image, early: table, isThere: images.find(image) !== undefined });
  });
  await take(images);
  expect(said).toMatchObject([
    { id, isThere: false },
    { id, early: undefined, isThere: true },
  ]);
  expect(await said[0]?.early).toEqual(await readFile(join(paths.images, id, 'objects')));
});

test('leaves nothing of an image that cannot be made, whatever came for it meanwhile', async () => {
  const { paths, id, open, take } = await setUp('layer');
  const images = await open((image) => {
    void mkdir(join(paths.private, image, 'ab'));
  });
  await expect(take(images)).rejects.toMatchObject({ code: 'invalid-argument' });
  expect(images.find(id)).toBeUndefined();
  expect(await readdir(paths.private)).toEqual([]);
  expect((await readdir(paths.images)).filter((name) => name !== 'last-slot')).toEqual([]);
});

test.each<[what: string, spoil: (index: Buffer) => Buffer, said: RegExp]>([
  ['a flipped bit', (index) => Buffer.from(index.map((byte, at) => (at === 20 ? byte ^ 1 : byte))), /is damaged/],
  ['a byte too few', (index) => index.subarray(0, -1), /has \d+ bytes, its descriptor says \d+/],
  ['a byte too many', (index) => Buffer.concat([index, Buffer.from([0])]), /has \d+ bytes, its descriptor says \d+/],
])('leaves nothing of an image whose index has %s, and takes the right one later', async (_, spoil, said) => {
  const { paths, id, indexFile, index, user, open, take } = await setUp();
  const told: Digest[] = [];
  const images = await open((image) => told.push(image));
  await writeFile(indexFile, spoil(index));
  const refused = take(images);
  await expect(refused).rejects.toMatchObject({ code: 'corrupt', message: expect.stringMatching(said) });
  await expect(refused).rejects.toThrow(`the index of image sha256:${id} `);
  expect([images.list(), told]).toEqual([[], []]);
  expect(await readdir(paths.private)).toEqual([]);
  expect((await readdir(paths.images)).filter((name) => name !== 'last-slot')).toEqual([]);
  await writeFile(indexFile, index);
  expect(await take(images)).toMatchObject({ id, kind: 'image' });
  expect(await images.users(id)).toEqual([user]);
});

test('removes at the start what came for an image that an earlier process did not finish', async () => {
  const { paths, id, open, take } = await setUp();
  await take(await open());
  const lost = digestOf(Buffer.from('lost'));
  await mkdir(join(paths.private, lost, 'ab'), { recursive: true });
  await mkdir(join(paths.images, '.tmp-1-1'));
  const images = await open();
  expect(images.list().map((image) => image.id)).toEqual([id]);
  expect(await readdir(paths.private)).toEqual([id]);
});
