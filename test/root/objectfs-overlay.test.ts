import { chmod, mkdir, mkdtemp, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { digestToBytes, objectPath } from '#core/digest.ts';
import { connect } from '#core/grpc/client.ts';
import { type Directory, emptyDirectory, type Tree } from '#core/index/tree.ts';
import { ContentStoreService, type WriteRequest } from '#proto/gen/gear/v1/objects.ts';
import { writeIndexImage } from '../../driver/kernel/erofs/index-image.ts';
import { mountIndexImage } from '../../driver/kernel/erofs/mount-index.ts';
import { writeIndexFolder } from '../../driver/kernel/erofs/plain-index.ts';
import { mountOverlay } from '../../driver/kernel/overlay.ts';
import { startManager } from '../support/gear.ts';
import { randomObject, type TestObject, testNode } from '../support/objectfs.ts';
import { Reader } from '../support/reader.ts';

const CHUNK = 128 * 1024;

function treeOf(files: readonly TestObject[]): Tree {
  const root: Directory = emptyDirectory();
  for (const [i, { digest, facts }] of files.entries()) {
    root.children.set(`file-${i}`, {
      type: 'file',
      mode: 0o640,
      uid: 7,
      gid: 8,
      mtimeSeconds: 1_600_000_000,
      mtimeNanoseconds: 5,
      xattrs: new Map(),
      digest,
      ...facts,
    });
  }
  return { kind: 'image', chunkSize: CHUNK, root };
}

async function upload(address: string, objects: readonly TestObject[]): Promise<void> {
  using connection = connect(address);
  async function* requests(): AsyncGenerator<WriteRequest> {
    for (const { digest, bytes } of objects) {
      yield { part: { $case: 'header', value: { digest: digestToBytes(digest), size: BigInt(bytes.length) } } };
      for (let at = 0; at < bytes.length; at += CHUNK)
        yield { part: { $case: 'data', value: bytes.subarray(at, at + CHUNK) } };
    }
  }
  await connection.clientStream(ContentStoreService.write, requests(), { timeout: 30_000 });
}

test.each(['erofs', 'directory'] as const)(
  'a container reads through overlay over a %s index: private first, remote on the first touch',
  async (format) => {
    const files = [10, 5000, CHUNK, 3 * CHUNK + 5, 1_000_000].map((size) => randomObject(size));
    await using manager = await startManager();
    await upload(manager.address, files);
    await using node = await testNode();
    const image = await node.image(files);
    const mounted = await node.start({ manager: manager.address, deadline: 10_000 });
    // The root's own folder, so that the node's cleaning up finds the mounts.
    const scratch = await mkdtemp(join(node.root, 's-'));
    const [index, upper, work, merged] = ['index', 'upper', 'work', 'merged'].map((name) => join(scratch, name)) as [
      string,
      string,
      string,
      string,
    ];
    for (const folder of [upper, work, merged]) await mkdir(folder);
    if (format === 'erofs') {
      await writeIndexImage(treeOf(files), join(scratch, 'index.erofs'));
      await mkdir(index);
      await mountIndexImage(join(scratch, 'index.erofs'), index);
    } else {
      await writeIndexFolder(treeOf(files), index);
    }
    await mountOverlay(merged, {
      lower: [index],
      data: [await mounted.privateFolder(image), mounted.imageFolder(image)],
      upper,
      work,
    });
    await using reader = new Reader();
    expect(await reader.list(merged)).toEqual(files.map((_, i) => `file-${i}`));
    // Looking, changing modes and moving fetch nothing.
    expect(await stat(join(merged, 'file-4'))).toMatchObject({ size: 1_000_000, uid: 7, gid: 8 });
    await chmod(join(merged, 'file-0'), 0o600);
    expect(await mounted.stats()).toMatchObject({ fetchedBytes: 0, images: [{ touchedObjects: 0 }] });
    for (const [i, { bytes }] of files.entries()) {
      expect((await reader.file(join(merged, `file-${i}`))).equals(bytes)).toBe(true);
    }
    const total = files.reduce((sum, { bytes }) => sum + bytes.length, 0);
    expect(await mounted.stats()).toMatchObject({
      fetchedBytes: total,
      images: [{ touchedObjects: 5, fromRemote: 5 }],
    });
    for (const { digest, bytes } of files) {
      expect((await readFile(join(node.root, 'private', image, objectPath(digest)))).equals(bytes)).toBe(true);
    }
    // A second container of the image, without anybody's help.
    const second = join(scratch, 'second');
    for (const name of ['u', 'w', 'm']) await mkdir(join(second, name), { recursive: true });
    await mountOverlay(join(second, 'm'), {
      lower: [index],
      data: [await mounted.privateFolder(image), mounted.imageFolder(image)],
      upper: join(second, 'u'),
      work: join(second, 'w'),
    });
    const { server } = await mounted.stats();
    process.kill(server, 'SIGSTOP');
    try {
      for (const [i, { bytes }] of files.entries())
        expect((await readFile(join(second, 'm', `file-${i}`))).equals(bytes)).toBe(true);
    } finally {
      process.kill(server, 'SIGCONT');
    }
    // Writing to a lazy file brings its contents up.
    await writeFile(join(second, 'm', 'file-3'), 'more', { flag: 'a' });
    expect(
      (await reader.file(join(second, 'm', 'file-3'))).equals(
        Buffer.concat([(files[3] as TestObject).bytes, Buffer.from('more')]),
      ),
    ).toBe(true);
  },
);
