import { expect, it } from 'vitest';
import { archive, directory, file, hardLink, whiteout } from '../../test/images/tar-bytes.ts';
import { CHUNK_SIZE, layerOf } from '../../test/support/layer.ts';
import { digestOf } from '../digest.ts';
import { objectsOf, summarize } from './objects.ts';
import type { RegularFile } from './tree.ts';

const big = Buffer.alloc(CHUNK_SIZE + 1, 'b');
const tar = archive(
  directory('d/'),
  file('d/one', 'same'),
  file('d/two', 'same', { mode: 0o600 }),
  hardLink('d/three', 'd/two', { mode: 0o600 }),
  file('empty', ''),
  file('big', big),
  whiteout('', 'gone'),
);

it('lists each object once', async () => {
  const { tree } = await layerOf(tar);
  const objects = objectsOf(tree);
  expect(objects.size).toBe(2);
  expect(objects.get(digestOf(Buffer.from('same')))).toEqual({ size: 4, chunkDigests: Buffer.alloc(0) });
  expect(objects.get(digestOf(big))?.chunkDigests).toHaveLength(64);
});

it('counts names, files and objects', async () => {
  const { tree } = await layerOf(tar);
  expect(summarize(tree)).toEqual({
    ...{ entries: 8, files: 4, fileBytes: 4 + 4 + 0 + big.length },
    ...{ objects: 2, objectBytes: 4 + big.length },
  });
});

it('refuses one digest with two sizes', async () => {
  const { tree } = await layerOf(tar);
  const one = (tree.root.children.get('big') as RegularFile).digest;
  tree.root.children.set('lie', { ...(tree.root.children.get('empty') as RegularFile), size: 1, digest: one });
  expect(() => objectsOf(tree)).toThrow(/different sizes/);
});
