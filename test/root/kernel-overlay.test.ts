import { lstatSync, statSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, readFile, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { digestOf, objectPath } from '#core/digest.ts';
import { writeIndexImage } from '../../driver/kernel/erofs/index-image.ts';
import { mountIndexImage } from '../../driver/kernel/erofs/mount-index.ts';
import { METACOPY } from '../../driver/kernel/index-xattrs.ts';
import { unmount } from '../../driver/kernel/mount.ts';
import { findMount } from '../../driver/kernel/mount-info.ts';
import { type MountMethod, mountOverlay } from '../../driver/kernel/overlay.ts';
import { lgetxattr } from '../../driver/kernel/xattr.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { directoryOf, fileOf, treeOf } from './kernel-trees.ts';

/** Folders l0, l1, ... that hold a file of their name each, data, upper, work and m, all below `base`. */
async function layers(base: string, count: number) {
  const at = (name: string) => join(base, name);
  for (const name of ['data', 'upper', 'work', 'm']) await mkdir(at(name), { recursive: true });
  const lower: string[] = [];
  for (let i = 0; i < count; i++) {
    lower.push(at(`l${i}`));
    await mkdir(at(`l${i}`));
    await writeFile(at(`l${i}/f${i}`), String(i));
    await writeFile(at(`l${i}/same`), String(i));
  }
  return { at, lower, data: at('data'), upper: at('upper'), work: at('work'), target: at('m') };
}

const METHODS: readonly MountMethod[] = ['fsconfig', 'mount'];

describe.each(METHODS)('an overlay mounted by %s', (method) => {
  it.each([
    ['plain', 'plain'],
    ['odd', 'a:b,c\\d "e\' f\ng'],
    ['long', `${'long'.repeat(50)}/${'b,:\\'.repeat(50)}`],
  ])('takes layers with %s paths', async (_, name) => {
    await using folder = await temporaryFolder();
    const { at, lower, data, upper, work, target } = await layers(join(folder.path, name), 3);
    await mountOverlay(target, { lower, data: [data], upper, work }, { method, source: 'gear-test' });
    expect((await readdir(target)).sort()).toEqual(['f0', 'f1', 'f2', 'same']);
    expect(await readFile(at('m/same'), 'utf8')).toBe('0');
    await writeFile(at('m/new'), 'new');
    expect(await readFile(at('upper/new'), 'utf8')).toBe('new');
    expect(findMount(target)).toMatchObject({ type: 'overlay', source: 'gear-test' });
    await unmount(target);
    expect(findMount(target)).toBeUndefined();
  });

  it('takes 128 layers whose paths are long', async () => {
    await using folder = await temporaryFolder();
    const { at, lower, upper, work, target } = await layers(join(folder.path, 'x'.repeat(200), 'y'.repeat(200)), 128);
    await mountOverlay(target, { lower, upper, work }, { method });
    expect(await readdir(target)).toHaveLength(129);
    expect(await readFile(at('m/f127'), 'utf8')).toBe('127');
    expect(await readFile(at('m/same'), 'utf8')).toBe('0');
  });

  it('is read-only without an upper directory', async () => {
    await using folder = await temporaryFolder();
    const { at, lower, data, target } = await layers(folder.path, 1);
    await mountOverlay(target, { lower, data: [data] }, { method });
    expect(await readFile(at('m/f0'), 'utf8')).toBe('0');
    await expect(writeFile(at('m/new'), '')).rejects.toMatchObject({ code: 'EROFS' });
  });

  it('says what was refused, and leaves nothing mounted', async () => {
    await using folder = await temporaryFolder();
    const { lower, upper, work, target, at } = await layers(folder.path, 1);
    const missing = mountOverlay(target, { lower: [...lower, at('missing')], upper, work }, { method });
    await expect(missing).rejects.toMatchObject({ code: 'not-found', message: expect.stringContaining(at('missing')) });
    const label = mountOverlay(target, { lower, upper, work, label: 'system_u:object_r:x_t:s0:c1,c2' }, { method });
    await expect(label).rejects.toMatchObject({
      message: expect.stringContaining('context=system_u:object_r:x_t:s0:c1,c2'),
    });
    const inside = mountOverlay(target, { lower, upper: `${lower[0]}/f0`, work }, { method });
    await expect(inside).rejects.toMatchObject({ message: expect.stringMatching(/upperdir=.*probably/) });
    expect(findMount(target)).toBeUndefined();
  });
});

describe('an overlay over an index image', () => {
  const content = Buffer.alloc(1_000_000, 'gear');
  const tree = treeOf(
    directoryOf({
      'big-file': fileOf(content),
      folder: directoryOf({ inner: fileOf(content, { mode: 0o4755 }) }),
      other: directoryOf({}),
    }),
  );

  async function lazyMount(base: string, { present }: { present: boolean }) {
    const { at, data, upper, work, target } = await layers(base, 0);
    await mkdir(at('index'));
    await writeIndexImage(tree, at('image'));
    await mountIndexImage(at('image'), at('index'));
    if (present) {
      const object = join(data, objectPath(digestOf(content)));
      await mkdir(dirname(object), { recursive: true });
      await writeFile(object, content);
    }
    const mountIt = async () =>
      await mountOverlay(target, { lower: [at('index')], data: [data], upper, work, xino: 'auto' });
    await mountIt();
    const remount = async () => {
      await unmount(target);
      await mountIt();
    };
    return { at, remount };
  }

  it('changes and moves metadata without contents', async () => {
    await using folder = await temporaryFolder();
    const { at, remount } = await lazyMount(folder.path, { present: true });
    await chmod(at('m/big-file'), 0o600);
    await chown(at('m/big-file'), 5, 6);
    await rename(at('m/big-file'), at('m/moved'));
    await rename(at('m/folder'), at('m/renamed'));
    await rename(at('m/renamed'), at('m/other/deeper'));
    const status = statSync(at('m/moved'));
    expect([status.mode & 0o7777, status.uid, status.gid, status.size]).toEqual([0o600, 5, 6, content.length]);
    expect(lgetxattr(at('upper/moved'), METACOPY)).toBeDefined();
    expect(statSync(at('upper/moved')).blocks).toBeLessThan(16);
    await remount();
    expect((await readFile(at('m/moved'))).equals(content)).toBe(true);
    expect((await readFile(at('m/other/deeper/inner'))).equals(content)).toBe(true);
  });

  it('fails an open of what is missing, and forgets that it did', async () => {
    await using folder = await temporaryFolder();
    const { at } = await lazyMount(folder.path, { present: false });
    await expect(readFile(at('m/big-file'))).rejects.toMatchObject({ code: 'ENOENT' });
    // The copy of the metadata looks whether the contents are there (it opens nothing).
    await expect(chmod(at('m/big-file'), 0o600)).rejects.toMatchObject({ code: 'ENOENT' });
    const object = join(at('data'), objectPath(digestOf(content)));
    await mkdir(dirname(object), { recursive: true });
    await writeFile(object, content);
    expect((await readFile(at('m/big-file'))).equals(content)).toBe(true);
  });

  it('copies contents when they are written, and never touches the object', async () => {
    await using folder = await temporaryFolder();
    const { at } = await lazyMount(folder.path, { present: true });
    const before = lstatSync(at('m/big-file'), { bigint: true }).ino;
    await writeFile(at('m/big-file'), 'x', { flag: 'r+' });
    const expected = Buffer.from(content);
    expected.write('x', 0);
    expect((await readFile(at('m/big-file'))).equals(expected)).toBe(true);
    expect((await readFile(at('upper/big-file'))).equals(expected)).toBe(true);
    expect((await readFile(at('m/folder/inner'))).equals(content)).toBe(true);
    expect(lstatSync(at('m/big-file'), { bigint: true }).ino).toBe(before);
  });

  it('deletes and replaces lower names', async () => {
    await using folder = await temporaryFolder();
    const { at } = await lazyMount(folder.path, { present: true });
    await unlink(at('m/big-file'));
    await rm(at('m/folder'), { recursive: true });
    await mkdir(at('m/folder'));
    await symlink('nowhere', at('m/big-file'));
    expect(await readdir(at('m/folder'))).toEqual([]);
    expect(lstatSync(at('m/big-file')).isSymbolicLink()).toBe(true);
    expect(lgetxattr(at('upper/folder'), 'trusted.overlay.opaque')?.toString()).toBe('y');
  });
});
