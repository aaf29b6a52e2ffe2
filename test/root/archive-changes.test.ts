import {
  chmodSync,
  existsSync,
  lchownSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { applyLayer } from '../../driver/archive/apply.ts';
import { CHANGE_MODIFIED, type Change } from '../../driver/archive/change.ts';
import { changes } from '../../driver/archive/changes.ts';
import { copyTree } from '../../driver/archive/copy-inode.ts';
import { diffSize, tarOfChanges, tarOfTree } from '../../driver/archive/diff-tar.ts';
import { mknod, setTimes } from '../../driver/kernel/inode.ts';
import { mountOverlay } from '../../driver/kernel/overlay.ts';
import { lsetxattr } from '../../driver/kernel/xattr.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { tarredTree } from '../support/differential.ts';
import { layerTar } from '../support/layer-tar.ts';
import { Random } from '../support/random.ts';
import { pieces, readAll } from '../support/tar-read.ts';
import { diffTrees, treeOf } from '../support/tree.ts';
import { randomMutation } from '../support/tree-mutations.ts';

const LETTERS = ['C', 'A', 'D'] as const;

async function listed(newRoot: string, oldRoot?: string, guide?: string): Promise<string[]> {
  return (await changes(newRoot, oldRoot, { guide })).map(({ path, kind }) => `${LETTERS[kind]} ${path}`);
}

/** Two copies of one small tree. */
async function twoCopies(base: string): Promise<{ older: string; newer: string }> {
  const [older, newer] = [join(base, 'old'), join(base, 'new')];
  const tar = await layerTar([
    { path: 'a/' },
    { path: 'a/b/' },
    { path: 'a/b/c', body: 'c' },
    { path: 'a/d', body: 'd' },
    { path: 'e', body: 'e', mtimeNanoseconds: 5 },
    { path: 'f', link: 'e' },
    { path: 'g/' },
    { path: 'g/h/' },
    { path: 'g/h/i', body: 'i' },
  ]);
  for (const root of [older, newer]) {
    await mkdir(root);
    await applyLayer(pieces(tar), root, { format: 'plain' });
  }
  return { older, newer };
}

describe('changes', () => {
  const CASES: Record<string, [change: (root: string) => void, expected: string[]]> = {
    nothing: [() => {}, []],
    'times of directories': [(root) => utimesSync(join(root, 'a'), 1, 1), []],
    'a new file': [(root) => writeFileSync(join(root, 'a/b/new'), ''), ['C /a', 'C /a/b', 'A /a/b/new']],
    'a new file at the root': [(root) => writeFileSync(join(root, 'new'), ''), ['A /new']],
    'a new directory': [(root) => mkdirSync(join(root, 'a/x/y'), { recursive: true }), ['C /a', 'A /a/x', 'A /a/x/y']],
    'a removed file': [(root) => rmSync(join(root, 'a/b/c')), ['C /a', 'C /a/b', 'D /a/b/c']],
    'a removed directory, top only': [(root) => rmSync(join(root, 'g'), { recursive: true }), ['D /g']],
    'a mode': [(root) => chmodSync(join(root, 'a/d'), 0o600), ['C /a', 'C /a/d']],
    "a directory's mode": [(root) => chmodSync(join(root, 'g'), 0o700), ['C /g']],
    'an owner of a symlink': [(root) => lchownSync(join(root, 'f'), 1, 1), ['C /f']],
    'a time': [(root) => utimesSync(join(root, 'e'), 77, 77), ['C /e']],
    'whole seconds against nanoseconds': [(root) => setTimes(join(root, 'e'), 1_000_000_000, 0), []],
    'other nanoseconds': [(root) => setTimes(join(root, 'e'), 1_000_000_000, 6), ['C /e']],
    'content of another size, same time': [
      (root) => {
        writeFileSync(join(root, 'e'), 'longer');
        setTimes(join(root, 'e'), 1_000_000_000, 5);
      },
      ['C /e'],
    ],
    'a capability': [
      (root) =>
        lsetxattr(
          join(root, 'e'),
          'security.capability',
          Buffer.from('0100000200200000000000000000000000000000', 'hex'),
        ),
      ['C /e'],
    ],
    'another xattr': [(root) => lsetxattr(join(root, 'e'), 'user.x', Buffer.from('x')), []],
    'a file instead of a directory': [
      (root) => {
        rmSync(join(root, 'g'), { recursive: true });
        writeFileSync(join(root, 'g'), '');
      },
      ['C /g'],
    ],
    'a directory instead of a file': [
      (root) => {
        rmSync(join(root, 'e'));
        mkdirSync(join(root, 'e'));
        writeFileSync(join(root, 'e/x'), '');
      },
      ['C /e', 'A /e/x'],
    ],
    'a symlink instead of a file': [
      (root) => {
        rmSync(join(root, 'e'));
        symlinkSync('a', join(root, 'e'));
      },
      ['C /e'],
    ],
    'a block device instead of a directory, as Docker lists it': [
      (root) => {
        rmSync(join(root, 'a'), { recursive: true });
        mknod(join(root, 'a'), 'block-device', 0o600, 1, 1);
      },
      ['C /a', 'D /a/b', 'D /a/d'],
    ],
    'a renamed directory': [
      (root) => renameSync(join(root, 'g'), join(root, 'z')),
      ['D /g', 'A /z', 'A /z/h', 'A /z/h/i'],
    ],
    'order by bytes': [
      (root) => {
        for (const name of ['a-', 'a.', 'a0', 'ä']) writeFileSync(join(root, name), '');
        writeFileSync(join(root, 'a/z'), '');
      },
      ['C /a', 'A /a-', 'A /a.', 'A /a/z', 'A /a0', `A /${Buffer.from('ä').toString('latin1')}`],
    ],
  };

  it.each(Object.entries(CASES))('%s', async (_, [change, expected]) => {
    await using folder = await temporaryFolder();
    const { older, newer } = await twoCopies(folder.path);
    change(newer);
    expect(await listed(newer, older)).toEqual(expected);
  });

  it('lists everything as added where there is nothing to compare with', async () => {
    await using folder = await temporaryFolder();
    const { newer } = await twoCopies(folder.path);
    const expected = ['/a', '/a/b', '/a/b/c', '/a/d', '/e', '/f', '/g', '/g/h', '/g/h/i'].map((path) => `A ${path}`);
    expect(await listed(newer)).toEqual(expected);
  });

  it('fails where there is no directory', async () => {
    await using folder = await temporaryFolder();
    await expect(changes(join(folder.path, 'nothing'), undefined)).rejects.toThrow(/nothing is not a directory/);
  });
});

describe('an overlay and its upper directory', () => {
  it.each([
    [1, false],
    [2, true],
    [3, true],
    [4, true],
    [5, false],
  ])(
    'give the same changes, whose tar makes the same tree, seed %i, redirects and metacopy: %s',
    async (seed, lazy) => {
      await using folder = await temporaryFolder();
      const at = (name: string) => join(folder.path, name);
      for (const name of ['lower', 'upper', 'work', 'merged', 'copy']) await mkdir(at(name));
      const random = new Random(seed);
      let clock = 1_000_000_000;
      const mutate = async (root: string, count: number) => {
        for (; count > 0; count--) {
          const tree = await treeOf(root, { content: false });
          randomMutation(random, tree, 'id', clock++).apply(root);
        }
      };
      await mutate(at('lower'), 80);
      await symlink('nowhere', at('lower/renamed'));
      await mkdir(at('lower/hard-links-to-rename/sub'), { recursive: true });
      await writeFileTimed(at('lower/hard-links-to-rename/sub/file'));
      await mountOverlay(at('merged'), {
        lower: [at('lower')],
        upper: at('upper'),
        work: at('work'),
        ...(lazy ? { redirectDirectories: true, metacopy: true } : {}),
      });
      for (let round = 0; round < 8; round++) {
        await mutate(at('merged'), 12);
        if (round === 3 && lazy) renameSync(at('merged/hard-links-to-rename'), at('merged/hard-links-renamed'));
        const before = await treeOf(at('upper'));
        const found = await changes(at('merged'), at('lower'), { guide: at('upper') });
        expectMoreOnlyWhereCopiedUp(found, await changes(at('merged'), at('lower')), at('upper'));
        const tar = Buffer.concat(await Array.fromAsync(tarOfChanges(at('merged'), found)));
        expect(diffTrees(before, await treeOf(at('upper')))).toEqual([]);

        const copy = at(`copy/${round}`);
        await mkdir(copy);
        await copyTree(at('lower'), copy);
        const { size } = await applyLayer(pieces(tar), copy, { format: 'plain' });
        expect(size).toBe(await diffSize(at('merged'), found));
        expect(diffTrees(await tarredTree(at('merged')), await tarredTree(copy))).toEqual([]);
      }
    },
  );
});

/** The guided answer is the other one and what was copied up without a change that a status shows, with the directories above. */
function expectMoreOnlyWhereCopiedUp(guided: readonly Change[], unguided: readonly Change[], upper: string): void {
  const words = (list: readonly Change[]) => list.map(({ path, kind }) => `${LETTERS[kind]} ${path}`);
  const known = new Set(words(unguided));
  expect(words(guided)).toEqual(expect.arrayContaining([...known]));
  for (const { path, kind } of guided.filter((change) => !known.has(`${LETTERS[change.kind]} ${change.path}`))) {
    expect(kind).toBe(CHANGE_MODIFIED);
    expect(existsSync(Buffer.from(`${upper}${path}`, 'latin1'))).toBe(true);
  }
}

it('an upper directory tells of contents that changed behind an unchanged status', async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  for (const name of ['lower', 'upper', 'work', 'merged']) await mkdir(at(name));
  writeFileSync(at('lower/file'), 'before');
  setTimes(at('lower/file'), 5, 5);
  await mountOverlay(at('merged'), { lower: [at('lower')], upper: at('upper'), work: at('work') });
  writeFileSync(at('merged/file'), 'after!');
  setTimes(at('merged/file'), 5, 5);
  expect(await listed(at('merged'), at('lower'))).toEqual([]);
  expect(await listed(at('merged'), at('lower'), at('upper'))).toEqual(['C /file']);
});

async function writeFileTimed(path: string): Promise<void> {
  writeFileSync(path, 'content');
  setTimes(path, 5, 5);
}

describe('the tar of a diff', () => {
  it('has whiteouts, hard links, xattrs and whole seconds', async () => {
    await using folder = await temporaryFolder();
    const { older, newer } = await twoCopies(folder.path);
    const tar = await layerTar([
      { path: 'a/.wh.b' },
      { path: 'x', body: 'linked', mode: 0o4755, uid: 70_000, mtimeNanoseconds: 999, xattrs: { 'user.a': 'b' } },
      {
        path: 'y',
        type: 'hard-link',
        link: 'x',
        mode: 0o4755,
        uid: 70_000,
        xattrs: { 'user.a': 'b' },
        mtimeNanoseconds: 999,
      },
      {
        path: 'cap',
        body: 'c',
        xattrs: { 'security.capability': Buffer.from(`01000003${'00'.repeat(16)}e8030000`, 'hex') },
      },
      { path: 'dev', type: 'block-device', major: 8, minor: 70_000 },
    ]);
    await applyLayer(pieces(tar), newer, { format: 'plain' });
    const stream = tarOfChanges(newer, await changes(newer, older));
    const entries = await readAll(Buffer.concat(await Array.fromAsync(stream)));
    expect(entries.map(({ path, type, body }) => [path, type, body.toString()])).toEqual([
      ['a/', 'directory', ''],
      ['a/.wh.b', 'file', ''],
      ['cap', 'file', 'c'],
      ['dev', 'block-device', ''],
      ['x', 'file', 'linked'],
      ['y', 'hard-link', ''],
    ]);
    expect(entries.find(({ path }) => path === 'x')).toMatchObject({ mode: 0o4755, uid: 70_000, mtimeNanoseconds: 0 });
    expect(entries.find(({ path }) => path === 'y')).toMatchObject({ link: 'x' });
    expect(entries.find(({ path }) => path === 'x')?.xattrs).toEqual(new Map([['user.a', Buffer.from('b')]]));
    // Without the root user of a namespace: revision 2.
    const capability = entries.find(({ path }) => path === 'cap')?.xattrs.get('security.capability');
    expect(capability?.toString('hex')).toBe(`01000002${'00'.repeat(16)}`);
    expect(entries.find(({ path }) => path === 'dev')).toMatchObject({ major: 8, minor: 70_000 });
  });

  it('leaves out sockets, and what vanished', async () => {
    await using folder = await temporaryFolder();
    const { newer } = await twoCopies(folder.path);
    const found = await changes(newer, undefined);
    rmSync(join(newer, 'e'));
    const entries = await readAll(Buffer.concat(await Array.fromAsync(tarOfChanges(newer, found))));
    expect(entries.map(({ path }) => path)).toEqual(['a/', 'a/b/', 'a/b/c', 'a/d', 'f', 'g/', 'g/h/', 'g/h/i']);
  });

  it('stays a tar when a file shrinks or grows while it is read', async () => {
    await using folder = await temporaryFolder();
    const root = join(folder.path, 'root');
    await mkdir(root);
    const size = 2_000_000;
    writeFileSync(join(root, 'shrinks'), Buffer.alloc(size, 'x'));
    writeFileSync(join(root, 'znext'), 'next');
    const parts: Buffer[] = [];
    for await (const part of tarOfTree(root)) {
      if (parts.length === 0) writeFileSync(join(root, 'shrinks'), 'short');
      parts.push(part);
    }
    const entries = await readAll(Buffer.concat(parts));
    expect(entries.map(({ path, body }) => [path, body.length])).toEqual([
      ['shrinks', size],
      ['znext', 4],
    ]);
    expect(entries[0]?.body.at(-1)).toBe(0);
  });

  it('gives the same bytes every time', async () => {
    await using folder = await temporaryFolder();
    const { older, newer } = await twoCopies(folder.path);
    rmSync(join(newer, 'e'));
    const tar = async () =>
      Buffer.concat(await Array.fromAsync(tarOfChanges(newer, await changes(newer, older)))).toString('hex');
    expect(await tar()).toBe(await tar());
  });
});
