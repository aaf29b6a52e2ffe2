import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { type Digest, digestOf } from '#core/digest.ts';
import { encodeIndex } from '#core/index/encode.ts';
import { writeObjectTable } from '#core/index/object-table.ts';
import { objectsOf } from '#core/index/objects.ts';
import { type Tree, walk } from '#core/index/tree.ts';
import { mountOverlay } from '../../driver/kernel/overlay.ts';
import { startContentServer, type TestNode, testNode, testObject } from '../support/objectfs.ts';
import { Reader } from '../support/reader.ts';
import { assertSameTree, directoryOf, fileOf, randomTree, treeOf } from './kernel-trees.ts';

const run = promisify(execFile);

async function addImage(node: TestNode, tree: Tree, slot: number): Promise<Digest> {
  const index = encodeIndex(tree);
  const image = digestOf(index);
  for (const folder of ['images', 'private']) await mkdir(join(node.root, folder, image), { recursive: true });
  await writeFile(join(node.root, 'images', image, 'index'), index);
  await writeFile(
    join(node.root, 'images', image, 'objects'),
    writeObjectTable(objectsOf(tree), { slot, chunkSize: tree.chunkSize }),
  );
  return image;
}

async function overlayOn(node: TestNode, lower: string): Promise<string> {
  const scratch = await mkdtemp(join(node.root, 's-'));
  const [upper, work, merged] = ['u', 'w', 'm'].map((name) => join(scratch, name)) as [string, string, string];
  for (const folder of [upper, work, merged]) await mkdir(folder);
  await mountOverlay(merged, { lower: [lower], upper, work });
  return merged;
}

test.each([1, 2, 3])('the tree of random index %i is an overlay lower like any other', async (seed) => {
  const contents = new Map<string, Buffer>();
  const tree = randomTree(seed, { objects: contents });
  await using node = await testNode();
  await node.store(...[...contents.values()].map((bytes) => testObject(bytes)));
  await using server = await startContentServer(node.objects);
  const image = await addImage(node, tree, 5);
  const mounted = await node.start({ manager: server.address, deadline: 10_000 });
  const merged = await overlayOn(node, mounted.treeFolder(image));
  expect(assertSameTree(tree, merged, { direct: false })).toBeGreaterThan(300);
  expect((await mounted.stats()).fetchedBytes).toBe(0);
  await using reader = new Reader();
  let files = 0;
  for (const { path, inode } of walk(tree.root)) {
    if (inode.type !== 'file') continue;
    const bytes = await reader.file({ latin1: `${merged}/${path}` });
    expect(bytes.equals(contents.get(inode.digest ?? '') ?? Buffer.alloc(0))).toBe(true);
    files++;
  }
  expect(files).toBeGreaterThan(50);
  // Nothing has changed by looking, in this server process or the next.
  const before = (await mounted.stats()).server;
  process.kill(before, 'SIGKILL');
  await expect.poll(async () => (await mounted.stats()).server, { timeout: 10_000 }).not.toBe(before);
  expect(assertSameTree(tree, merged, { direct: false })).toBeGreaterThan(300);
});

test('files are read, changed and removed through it; another image is not seen', async () => {
  const large = testObject(Buffer.alloc(400_000, 'large'));
  const script = Buffer.from('#!/bin/sh\necho "$0 runs"\n');
  const root = directoryOf({
    large: { ...fileOf(large.bytes), chunkDigests: large.facts.chunkDigests },
    script: fileOf(script, { mode: 0o755 }),
    folder: directoryOf({ below: fileOf(Buffer.from('below')) }),
  });
  await using node = await testNode();
  await node.store(large, testObject(script), testObject(Buffer.from('below')));
  await using server = await startContentServer(node.objects);
  const image = await addImage(node, treeOf(root), 1);
  const other = await addImage(node, treeOf(directoryOf({ other: fileOf(Buffer.from('other')) })), 2);
  const mounted = await node.start({ manager: server.address, deadline: 10_000 });
  const merged = await overlayOn(node, mounted.treeFolder(image));
  await using reader = new Reader();
  const fd = await reader.open(join(merged, 'large'));
  expect((await reader.read(fd, 200_001, 10)).equals(large.bytes.subarray(200_001, 200_011))).toBe(true);
  expect((await mounted.stats()).fetchedBytes).toBeLessThan(400_000);
  expect((await reader.read(fd)).equals(large.bytes)).toBe(true);
  expect((await run(join(merged, 'script'), [], { timeout: 10_000 })).stdout).toBe(`${join(merged, 'script')} runs\n`);
  await chmod(join(merged, 'large'), 0o600);
  await writeFile(join(merged, 'folder/below'), ' and more', { flag: 'a' });
  expect(await readFile(join(merged, 'folder/below'), 'utf8')).toBe('below and more');
  await run('rm', ['-r', join(merged, 'folder')], { timeout: 10_000 });
  expect(await reader.list(merged)).toEqual(['large', 'script']);
  expect(await reader.list(mounted.treeFolder(other))).toEqual(['other']);
  await expect(stat(join(mounted.treeFolder(image), 'other'))).rejects.toMatchObject({ code: 'ENOENT' });
});

test('an index that was damaged on the disk is refused', async () => {
  await using node = await testNode();
  await using server = await startContentServer(node.objects);
  const image = await addImage(node, treeOf(directoryOf({ file: fileOf(Buffer.from('x')) })), 1);
  const file = join(node.root, 'images', image, 'index');
  const bytes = await readFile(file);
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) ^ 1;
  await writeFile(file, bytes);
  const mounted = await node.start({ manager: server.address });
  await using reader = new Reader();
  await expect(reader.list(mounted.treeFolder(image))).rejects.toMatchObject({ code: 'EIO' });
  expect(await readFile(join(node.root, 'run/objectfs.log'), 'utf8')).toContain('is damaged');
});
