import { lstatSync, statSync } from 'node:fs';
import { mkdir, open, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isGearError } from '#core/errors.ts';
import { applyLayer } from '../../driver/archive/apply.ts';
import { copyTree } from '../../driver/archive/copy-inode.ts';
import { mountOverlay } from '../../driver/kernel/overlay.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { type LayerEntry, layerTar } from '../support/layer-tar.ts';
import { pieces } from '../support/tar-read.ts';
import { diffTrees, treeOf } from '../support/tree.ts';

/** Applies layers one on the other, once plainly into one folder, once as overlay layers that are then mounted; gives both roots. */
async function applyBoth(base: string, layers: readonly (readonly LayerEntry[])[]) {
  const plain = join(base, 'plain');
  await mkdir(plain, { mode: 0o755 });
  const below: string[] = [];
  let view: string | undefined;
  let sizes: number[] = [];
  for (const [index, entries] of layers.entries()) {
    const tar = await layerTar(entries);
    const diff = join(base, `diff${index}`);
    await mkdir(diff, { mode: 0o755 });
    const options = view === undefined ? {} : { lower: view };
    const overlay = await applyLayer(pieces(tar, 1000), diff, { format: 'overlay', ...options });
    const { size } = await applyLayer(pieces(tar), plain, { format: 'plain' });
    sizes = [size, overlay.size];
    below.unshift(diff);
    view = join(base, `view${index}`);
    await mkdir(view);
    if (below.length === 1) view = diff;
    else await mountOverlay(view, { lower: below });
  }
  return { plain, merged: view as string, sizes };
}

const dir = (path: string, more: Partial<LayerEntry> = {}): LayerEntry => ({ path: `${path}/`, ...more });
const file = (path: string, body = path, more: Partial<LayerEntry> = {}): LayerEntry => ({ path, body, ...more });
const gone = (path: string): LayerEntry => {
  const slash = path.lastIndexOf('/') + 1;
  return { path: `${path.slice(0, slash)}.wh.${path.slice(slash)}` };
};
const opaque = (path: string): LayerEntry => ({ path: `${path}/.wh..wh..opq` });

const BASE: readonly LayerEntry[] = [
  dir('.', { mode: 0o711, mtimeSeconds: 5 }),
  dir('d', { mode: 0o1770, uid: 3, gid: 4, xattrs: { 'user.d': 'x' } }),
  file('d/one'),
  file('d/two', 'two', { mode: 0o4755, uid: 7, gid: 8 }),
  dir('d/sub'),
  file('d/sub/deep'),
  file('f'),
  { path: 'link', link: 'd/one' },
  dir('empty'),
];

const CASES: Record<string, readonly LayerEntry[]> = {
  'metadata of all types': [
    file('cap', 'x', {
      uid: 1,
      mode: 0o4711,
      xattrs: { 'security.capability': Buffer.from('0100000200200000000000000000000000000000', 'hex') },
    }),
    { path: 'null', type: 'character-device', major: 1, minor: 3, mode: 0o666 },
    { path: 'loop', type: 'block-device', major: 7, minor: 300_000 },
    { path: 'pipe', type: 'fifo', mode: 0o600, uid: 9, mtimeSeconds: -5, mtimeNanoseconds: 250_000_000 },
    { path: 'sym', link: '../../outside', uid: 11, mtimeSeconds: 77, mtimeNanoseconds: 123_456_789 },
    file('user', 'u', { xattrs: { 'user.bin': Buffer.from([0, 255, 128, 10]), 'trusted.t': '' } }),
    file('na\nme\xff\xfe', 'odd'),
    file('n'.repeat(255), 'long'),
    { path: 'symlink-with-user-xattr', link: 'f', xattrs: { 'user.no': 'x' } },
  ],
  'whiteouts of files, directories and what is not there': [
    gone('d/one'),
    gone('d/sub'),
    gone('nothing'),
    gone('link'),
  ],
  'a whiteout before its name': [gone('f'), file('f', 'new')],
  'a whiteout after its name': [file('f', 'new'), gone('f')],
  'a whiteout and a directory of one name': [gone('d'), dir('d', { mode: 0o700 }), file('d/new')],
  'an opaque marker first': [dir('d'), opaque('d'), file('d/new')],
  'an opaque marker last': [dir('d'), file('d/new'), dir('d/sub'), file('d/sub/new'), opaque('d')],
  'an opaque marker without its directory': [opaque('d'), file('d/sub/new')],
  'an opaque root': [file('only'), dir('d'), file('d/new'), { path: '.wh..wh..opq' }],
  'a file over a directory': [file('d', 'now a file')],
  'a directory over a file': [dir('f'), file('f/below')],
  'a directory over a symlink': [dir('link'), file('link/below')],
  'a symlink over a directory': [{ path: 'd', link: 'empty' }],
  'a symlink over what the layer itself brought': [dir('x'), file('x/y'), { path: 'x', link: 'd' }],
  'an entry twice': [file('x', 'first'), file('x', 'second', { mode: 0o600 }), dir('y', { mode: 0o700 }), dir('y')],
  'odd spellings of paths': [file('./p/./q//r'), file('/absolute'), dir('/'), dir('./')],
  'implied parents': [file('new/deep/er/file')],
  'implied parents over a file and a symlink': [file('f/x'), file('link/x')],
  'hard links after and before their target': [
    file('h1', 'linked', { mode: 0o4755 }),
    { path: 'h2', type: 'hard-link', link: 'h1', mode: 0o4755 },
    { path: 'a0', type: 'hard-link', link: 'a1' },
    { path: 'a1', type: 'hard-link', link: './a2' },
    file('a2', 'late', { uid: 5 }),
    { path: 's1', link: 'anywhere' },
    { path: 's2', type: 'hard-link', link: 's1' },
  ],
  'hard links to the layer below': [
    { path: 'two-again', type: 'hard-link', link: 'd/two' },
    { path: 'two-more', type: 'hard-link', link: 'd/two' },
    dir('d', { mode: 0o1770, uid: 3, gid: 4 }),
  ],
  'a hard link to what the layer deletes below': [{ path: 'kept', type: 'hard-link', link: 'f' }, gone('f')],
  "aufs's own names": [
    dir('.wh..wh.plnk'),
    file('.wh..wh.plnk/1.2', 'hidden'),
    { path: 'shown', type: 'hard-link', link: '.wh..wh.plnk/1.2' },
    { path: '.wh..wh.aufs' },
  ],
  "overlayfs's own orders": [
    dir('d', { xattrs: { 'trusted.overlay.opaque': 'y', 'user.overlay.opaque': 'y' } }),
    file('f', 'f', { xattrs: { 'trusted.overlay.metacopy': '', 'trusted.overlay.redirect': '/d/one' } }),
  ],
  'a device that overlayfs takes for a whiteout': [{ path: 'f', type: 'character-device', major: 0, minor: 0 }],
};

/** Directories that a layer only implies: an overlay shows the new ones, a plain tree keeps those that were there. */
function impliedBy(entries: readonly LayerEntry[]): Set<string> {
  const named = new Set(entries.map(({ path }) => path.replace(/\/$/, '')));
  const parents = entries.flatMap(({ path }) => {
    const names = path.replace(/\/$/, '').split('/');
    return names.map((_, depth) => names.slice(0, depth).join('/'));
  });
  return new Set(parents.filter((path) => !named.has(path)));
}

async function differences(base: string, layers: readonly (readonly LayerEntry[])[]): Promise<string[]> {
  const { plain, merged, sizes } = await applyBoth(base, layers);
  expect(sizes[0]).toBe(sizes[1]);
  const implied = new Set(layers.flatMap((entries) => [...impliedBy(entries)]));
  const lines = diffTrees(await treeOf(plain), await treeOf(merged));
  return lines.filter((line) => !implied.has(JSON.parse(line.slice(0, line.indexOf('": ') + 1)) as string));
}

describe('a layer applied plainly and seen through an overlay', () => {
  it.each(Object.entries(CASES))('looks the same: %s', async (name, entries) => {
    await using folder = await temporaryFolder();
    const found = await differences(folder.path, [BASE, entries]);
    // Overlayfs breaks hard links between layers.
    expect(name.includes('layer below') ? found.filter((line) => !/: (nlink|sameAs) /.test(line)) : found).toEqual([]);
  });

  it('looks the same after many layers', async () => {
    await using folder = await temporaryFolder();
    // Those need the layer below to be as it was in the beginning.
    const cases = Object.entries(CASES).filter(([name]) => !/^(a )?hard links? to/.test(name));
    expect(await differences(folder.path, [BASE, ...cases.map(([, entries]) => entries)])).toEqual([]);
  });
});

describe('applyLayer', () => {
  it('writes exact metadata', async () => {
    await using folder = await temporaryFolder();
    await applyLayer(pieces(await layerTar(CASES['metadata of all types'] ?? [])), folder.path, { format: 'overlay' });
    const tree = await treeOf(folder.path);
    expect(tree.get('cap')).toMatchObject({ mode: 0o4711, uid: 1 });
    expect(tree.get('cap')?.xattrs).toEqual({ 'security.capability': '0100000200200000000000000000000000000000' });
    expect(tree.get('pipe')).toMatchObject({ type: 'fifo', uid: 9, mtime: -4_750_000_000n });
    expect(tree.get('sym')).toMatchObject({ target: '../../outside', uid: 11, mtime: 77_123_456_789n });
    expect(tree.get('user')?.xattrs).toEqual({ 'user.bin': '00ff800a', 'trusted.t': '' });
    expect(tree.get('na\nme\xff\xfe')?.size).toBe(3);
    expect(lstatSync(join(folder.path, 'null')).rdev).toBe(0x103);
  });

  it('writes whiteouts and opaque directories as overlayfs has them', async () => {
    await using folder = await temporaryFolder();
    const tar = await layerTar([
      gone('a/b'),
      dir('o'),
      opaque('o'),
      gone('o/x'),
      file('o/y'),
      dir('z', { mtimeSeconds: 9 }),
      file('z/f'),
    ]);
    expect(await applyLayer(pieces(tar), folder.path, { format: 'overlay' })).toEqual({ size: 'o/yz/f'.length });
    const tree = await treeOf(folder.path);
    expect(tree.get('a')).toMatchObject({ mode: 0o755, uid: 0, gid: 0, mtime: 0n });
    expect(tree.get('a/b')).toMatchObject({ type: 'character-device', device: 0n });
    expect(tree.get('o')?.xattrs).toEqual({ 'trusted.overlay.opaque': '79' });
    expect([...tree.keys()].filter((path) => path.startsWith('o'))).toEqual(['o', 'o/y']);
    expect(tree.get('z')?.mtime).toBe(9_000_000_000n);
  });

  it('leaves alone what the layer does not name', async () => {
    await using folder = await temporaryFolder();
    await applyLayer(pieces(await layerTar(BASE)), folder.path, { format: 'plain' });
    const before = await treeOf(folder.path);
    await applyLayer(pieces(await layerTar([file('d/sub/more'), gone('d/one')])), folder.path, { format: 'plain' });
    const after = await treeOf(folder.path);
    expect(diffTrees(before, after)).toEqual([
      '"d/one": only in the first tree',
      '"d/sub/more": only in the second tree',
    ]);
  });

  const REFUSED: Record<string, readonly LayerEntry[]> = {
    'a path through ..': [file('a/../../evil')],
    'a hard link through ..': [{ path: 'h', type: 'hard-link', link: '../evil' }],
    'a path through a symlink of the same layer': [{ path: 'out', link: '/tmp' }, file('out/evil')],
    'a path through a file of the same layer': [file('x'), file('x/y')],
    'a whiteout through a symlink of the same layer': [{ path: 'out', link: '../outside' }, gone('out/precious')],
    'an opaque marker in a symlink of the same layer': [{ path: 'out', link: '../outside' }, opaque('out')],
    'a hard link through a symlink': [
      { path: 'out', link: '../outside' },
      { path: 'h', type: 'hard-link', link: 'out/precious' },
    ],
    'a hard link to nothing': [{ path: 'h', type: 'hard-link', link: 'nothing' }],
    'a hard link to itself': [{ path: 'h', type: 'hard-link', link: './h' }],
    'hard links in a circle': [
      { path: 'h', type: 'hard-link', link: 'i' },
      { path: 'i', type: 'hard-link', link: 'h' },
    ],
    'a hard link to a directory': [dir('x'), { path: 'h', type: 'hard-link', link: 'x' }],
    'a hard link to the root': [{ path: 'h', type: 'hard-link', link: '/' }],
    'a root that is a file': [{ path: './', type: 'fifo' }],
    'an entry below a whiteout': [file('.wh.x/y')],
    'a whiteout of ..': [{ path: 'x/.wh...' }],
  };
  it.each(Object.entries(REFUSED))('refuses %s and writes nothing outside', async (_, entries) => {
    await using folder = await temporaryFolder();
    const outside = join(folder.path, 'outside');
    await mkdir(outside);
    await writeFile(join(outside, 'precious'), 'precious');
    for (const format of ['plain', 'overlay'] as const) {
      const root = join(folder.path, format);
      await mkdir(root);
      await writeFile(join(root, 'there'), '');
      const applied = applyLayer(pieces(await layerTar(entries)), root, { format });
      await expect(applied).rejects.toSatisfy((error) => isGearError(error, 'invalid-argument'));
      expect(await readdir(outside)).toEqual(['precious']);
      expect(statSync(join(outside, 'precious')).nlink).toBe(1);
    }
  });

  it('never goes through a symlink that was there before', async () => {
    await using folder = await temporaryFolder();
    const [outside, root] = [join(folder.path, 'outside'), join(folder.path, 'root')];
    await mkdir(outside);
    await writeFile(join(outside, 'precious'), 'precious');
    await mkdir(root);
    for (const name of ['a', 'b', 'c', 'd']) await symlink('../outside', join(root, name));
    await symlink('../outside/precious', join(root, 'e'));
    const tar = await layerTar([
      file('a/precious', 'evil'),
      gone('b/precious'),
      opaque('c'),
      gone('d'),
      file('e', 'evil'),
    ]);
    await applyLayer(pieces(tar), root, { format: 'plain' });
    expect(await readFile(join(outside, 'precious'), 'utf8')).toBe('precious');
    expect(await readFile(join(root, 'a/precious'), 'utf8')).toBe('evil');
    expect((await readdir(root)).sort()).toEqual(['a', 'b', 'c', 'e']);
  });

  it('fails on a truncated tar, and when it is aborted', async () => {
    await using folder = await temporaryFolder();
    const tar = await layerTar([file('big', 'x'.repeat(5000))]);
    const cut = applyLayer(pieces(tar.subarray(0, 2000)), folder.path, { format: 'plain' });
    await expect(cut).rejects.toSatisfy((error) => isGearError(error, 'corrupt'));
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(applyLayer(pieces(tar), folder.path, { format: 'plain', signal })).rejects.toThrow('enough');
  });

  it('keeps limits', async () => {
    await using folder = await temporaryFolder();
    const tar = await layerTar([file('a'), file('b'), file('c')]);
    const applied = applyLayer(pieces(tar), folder.path, { format: 'plain', limits: { entries: 2 } });
    await expect(applied).rejects.toSatisfy((error) => isGearError(error, 'resource-exhausted'));
  });
});

describe('copyTree', () => {
  it('copies everything: types, metadata, hard links, holes', async () => {
    await using folder = await temporaryFolder();
    const [source, target] = [join(folder.path, 'source'), join(folder.path, 'target')];
    for (const path of [source, target]) await mkdir(path);
    const cases = ['metadata of all types', 'hard links after and before their target'].flatMap(
      (name) => CASES[name] ?? [],
    );
    await applyLayer(pieces(await layerTar([...BASE, ...cases])), source, { format: 'plain' });
    await writeFile(join(source, 'large'), Buffer.alloc(3_000_000, 'large'));
    {
      await using sparse = await open(join(source, 'sparse'), 'w');
      await sparse.truncate(50_000_000);
      await sparse.write('middle', 20_000_001);
      await sparse.write('end', 49_999_990);
    }
    await copyTree(source, target);
    expect(diffTrees(await treeOf(source), await treeOf(target))).toEqual([]);
    expect(statSync(join(target, 'sparse')).blocks * 512).toBeLessThan(100_000);
  });
});
