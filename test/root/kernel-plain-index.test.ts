import { readdirSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Digest, objectPath } from '#core/digest.ts';
import { emptyDirectory, walk } from '#core/index/tree.ts';
import { writeIndexFolder } from '../../driver/kernel/erofs/plain-index.ts';
import { mountOverlay } from '../../driver/kernel/overlay.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { assertSameTree, directoryOf, fileOf, PLAIN, randomTree, treeOf } from './kernel-trees.ts';

describe('an index as a plain directory', () => {
  for (let seed = 1; seed <= 6; seed++) {
    it(`shows random tree ${seed} as it is`, async () => {
      await using folder = await temporaryFolder();
      const tree = randomTree(seed, { kind: seed % 3 === 0 ? 'layer' : 'image', modest: true });
      const path = join(folder.path, 'index');
      const { inodes } = await writeIndexFolder(tree, path);
      expect(inodes).toBeGreaterThan(100);
      expect(assertSameTree(tree, path, { direct: true })).toBeGreaterThan(inodes - 1);
    });
  }

  it('gives the bytes of the data directory below an overlay', async () => {
    await using folder = await temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    for (const name of ['data', 'upper', 'work', 'm']) await mkdir(at(name));
    const objects = new Map<string, Buffer>();
    const tree = randomTree(77, { objects, modest: true });
    await writeIndexFolder(tree, at('index'));
    await mountOverlay(at('m'), { lower: [at('index')], data: [at('data')], upper: at('upper'), work: at('work') });
    assertSameTree(tree, at('m'), { direct: false });
    for (const [digest, content] of objects) {
      const path = join(at('data'), objectPath(digest as Digest));
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, content);
    }
    for (const { path, inode } of walk(tree.root)) {
      if (inode.type !== 'file') continue;
      const bytes = await readFile(Buffer.concat([Buffer.from(`${at('m')}/`), Buffer.from(path, 'latin1')]));
      expect(bytes.equals(inode.digest === undefined ? Buffer.alloc(0) : (objects.get(inode.digest) as Buffer))).toBe(
        true,
      );
    }
  });

  const corrupt = {
    'a name with a slash': treeOf(directoryOf({ '../escape': fileOf(Buffer.alloc(0)) })),
    'the name ..': treeOf(directoryOf({ '..': fileOf(Buffer.alloc(0)) })),
    'an empty name': treeOf(directoryOf({ '': fileOf(Buffer.alloc(0)) })),
    'a whiteout in an image': treeOf(directoryOf({ gone: { type: 'whiteout' } })),
    'an empty link target': treeOf(directoryOf({ link: { ...PLAIN, type: 'symlink', target: '' } })),
    'a directory with two names': (() => {
      const twice = emptyDirectory();
      return treeOf(directoryOf({ a: twice, b: twice }));
    })(),
  };
  for (const [what, tree] of Object.entries(corrupt)) {
    it(`refuses ${what}`, async () => {
      await using folder = await temporaryFolder();
      await expect(writeIndexFolder(tree, join(folder.path, 'index'))).rejects.toMatchObject({ code: 'corrupt' });
      expect(readdirSync(folder.path)).toEqual(['index']);
    });
  }
});
