import { execFile } from 'node:child_process';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { type Digest, objectPath } from '#core/digest.ts';
import { emptyDirectory, type Tree, walk } from '#core/index/tree.ts';
import { writeIndexImage } from '../../driver/kernel/erofs/index-image.ts';
import { mountIndexImage } from '../../driver/kernel/erofs/mount-index.ts';
import { mountOverlay } from '../../driver/kernel/overlay.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { assertSameTree, directoryOf, fileOf, PLAIN, randomTree, treeOf } from './kernel-trees.ts';

const run = promisify(execFile);

/** Compiles, checks with fsck.erofs, mounts, compares. */
async function check(
  tree: Tree,
  { method = 'file', fsck = true }: { method?: 'file' | 'loop'; fsck?: boolean } = {},
): Promise<{ count: number; warnings: string[] }> {
  await using folder = await temporaryFolder();
  const image = join(folder.path, 'image');
  const { warnings } = await writeIndexImage(tree, image);
  // Reads every inode, directory entry and xattr; says what is wrong on standard error or by its exit code.
  if (fsck) {
    const { stdout, stderr } = await run('fsck.erofs', ['-d3', image]);
    expect(stdout + stderr).toContain('No errors found');
  }
  const mounted = join(folder.path, 'm');
  await mkdir(mounted);
  expect(await mountIndexImage(image, mounted, { method })).toBe(method);
  return { count: assertSameTree(tree, mounted, { direct: true }), warnings };
}

describe('an index image', () => {
  for (let seed = 1; seed <= 12; seed++) {
    it(`shows random tree ${seed} as it is`, async () => {
      const { count } = await check(randomTree(seed, { kind: seed % 3 === 0 ? 'layer' : 'image' }));
      expect(count).toBeGreaterThan(200);
    });
  }

  it('shows an empty tree', async () => {
    expect((await check(treeOf(emptyDirectory()))).count).toBe(1);
  });

  it('is mounted through a loop device', async () => {
    await check(randomTree(99), { method: 'loop' });
  });

  it('holds a directory of 100,000 names', async () => {
    const root = directoryOf({});
    const file = fileOf(Buffer.alloc(0));
    // Many names of one inode: a link count of more than 16 bits.
    for (let i = 0; i < 100_000; i++) root.children.set(`name-${(i * 7919) % 100_000}`, file);
    expect((await check(treeOf(root))).count).toBe(100_001);
  });

  it('holds directories 1,500 deep', async () => {
    const root = directoryOf({});
    let at = root;
    for (let i = 0; i < 1500; i++) {
      const next = directoryOf({});
      at.children.set('d', next);
      at = next;
    }
    // fsck.erofs 1.5 runs out of stack from about 800 on.
    expect((await check(treeOf(root), { fsck: false })).count).toBe(1501);
  });

  it('holds every size of directory around a block', async () => {
    const root = directoryOf({});
    // 19 names of 200 bytes make 4028 bytes with their entries, "." and ".." 27.
    for (let last = 1; last <= 60; last++) {
      const directory = directoryOf({});
      for (let i = 0; i < 19; i++)
        directory.children.set(`${String(i).padStart(2, '0')}${'x'.repeat(198)}`, fileOf(Buffer.alloc(0)));
      directory.children.set('z'.repeat(last), fileOf(Buffer.alloc(0)));
      root.children.set(`d${last}`, directory);
    }
    await check(treeOf(root));
  });

  it('holds every length of link target around a block', async () => {
    const root = directoryOf({});
    for (let length = 3900; length <= 4095; length++) {
      const target = 't'.repeat(length);
      root.children.set(`plain-${length}`, { ...PLAIN, type: 'symlink', target });
      const xattrs = new Map([['trusted.x', Buffer.alloc(length % 97)]]);
      root.children.set(`xattr-${length}`, { ...PLAIN, xattrs, type: 'symlink', target });
    }
    await check(treeOf(root));
  });

  it('holds large xattrs up to what the format has room for', async () => {
    const xattrs = new Map([1, 2, 3].map((i) => [`user.large${i}`, Buffer.alloc(65_535, i)]));
    const root = directoryOf({
      a: fileOf(Buffer.from('x'), { xattrs }),
      b: directoryOf({ c: fileOf(Buffer.from('y')) }, { xattrs }),
    });
    await check(treeOf(root));
  });

  it('refuses more xattrs than the format has room for and leaves nothing', async () => {
    await using folder = await temporaryFolder();
    const image = join(folder.path, 'image');
    const xattrs = new Map([1, 2, 3, 4, 5].map((i) => [`user.large${i}`, Buffer.alloc(65_535, i)]));
    const tree = treeOf(directoryOf({ 'too-much': fileOf(Buffer.from('x'), { xattrs }) }));
    await expect(writeIndexImage(tree, image)).rejects.toMatchObject({
      code: 'resource-exhausted',
      message: expect.stringContaining('too-much'),
    });
    await expect(readFile(image)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('leaves out, by name, xattrs that no image may bring', async () => {
    const bad = [
      'trusted.overlay.opaque',
      'user.overlay.redirect',
      'system.nfs4_acl',
      'btrfs.compression',
      'system.posix_acl_access',
    ];
    const xattrs = new Map([...bad.map((name) => [name, Buffer.from('y')] as const), ['user.kept', Buffer.from('k')]]);
    const { warnings } = await check(treeOf(directoryOf({ f: fileOf(Buffer.from('x'), { xattrs }) })));
    expect(warnings).toHaveLength(bad.length);
    for (const name of bad) expect(warnings.join('\n')).toContain(name);
  });
});

describe('an index image below an overlay', () => {
  it('gives the bytes of the data directories, and metadata without them', async () => {
    await using folder = await temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    for (const name of ['index', 'one', 'two', 'upper', 'work', 'm']) await mkdir(at(name));
    const objects = new Map<string, Buffer>();
    const tree = randomTree(4242, { objects });
    await writeIndexImage(tree, at('image'));
    await mountIndexImage(at('image'), at('index'));
    await mountOverlay(at('m'), {
      lower: [at('index')],
      data: [at('one'), at('two')],
      upper: at('upper'),
      work: at('work'),
      xino: 'auto',
    });
    // Not one object is there yet: metadata never asks for contents.
    assertSameTree(tree, at('m'), { direct: false });
    let number = 0;
    for (const [digest, content] of objects) {
      const path = join(at(number++ % 2 === 0 ? 'one' : 'two'), objectPath(digest as Digest));
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, content);
      await chmod(path, 0o444);
    }
    let read = 0;
    for (const { path, inode } of walk(tree.root)) {
      if (inode.type !== 'file') continue;
      const bytes = await readFile(Buffer.concat([Buffer.from(`${at('m')}/`), Buffer.from(path, 'latin1')]));
      expect(bytes.equals(inode.digest === undefined ? Buffer.alloc(0) : (objects.get(inode.digest) as Buffer))).toBe(
        true,
      );
      read++;
    }
    expect(read).toBeGreaterThan(50);
    assertSameTree(tree, at('m'), { direct: false });
  });
});
