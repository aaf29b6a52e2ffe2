import { describe, expect, it } from 'vitest';
import { archive, directory, entry, file, hardLink, symlink, whiteout, withPax } from '../../test/images/tar-bytes.ts';
import { CHUNK_SIZE, layerOf, MemorySink, outline } from '../../test/support/layer.ts';
import { encodeIndex } from './encode.ts';
import { stack } from './stack.ts';

const shape = async (...entries: Buffer[]) => outline((await layerOf(archive(...entries))).tree);
const opaque = (folder: string) => whiteout(folder, '.wh..opq');
const invalid = (message: RegExp) =>
  expect.objectContaining({ code: 'invalid-argument', message: expect.stringMatching(message) });

describe('a layer from a tar', () => {
  it('has metadata, contents and chunks as the tar has them', async () => {
    const sink = new MemorySink();
    const big = Buffer.alloc(2 * CHUNK_SIZE + 1, 'b');
    const tar = archive(
      directory('./', { mode: 0o711, uid: 3, mtime: 77 }),
      withPax(
        [
          ['SCHILY.xattr.user.a', 'b'],
          ['mtime', '5.25'],
        ],
        { name: './f', mode: 0o4755, uid: 1, gid: 2, content: big },
      ),
      file('empty', ''),
    );
    const { tree, warnings } = await layerOf(tar, { sink });
    expect(warnings).toEqual([]);
    expect(tree).toMatchObject({
      kind: 'layer',
      chunkSize: CHUNK_SIZE,
      root: { mode: 0o711, uid: 3, mtimeSeconds: 77 },
    });
    expect(tree.root.implied).toBeUndefined();
    const found = tree.root.children.get('f');
    expect(found).toMatchObject({
      type: 'file',
      mode: 0o4755,
      uid: 1,
      gid: 2,
      mtimeSeconds: 5,
      mtimeNanoseconds: 250_000_000,
    });
    if (found?.type !== 'file') throw new Error('no file');
    expect(found.xattrs).toEqual(new Map([['user.a', Buffer.from('b')]]));
    expect(found.chunkDigests).toHaveLength(3 * 32);
    expect(sink.contents.get(found.digest as string)?.equals(big)).toBe(true);
    expect(tree.root.children.get('empty')).toMatchObject({
      size: 0,
      digest: undefined,
      chunkDigests: Buffer.alloc(0),
    });
  });

  it('makes implied parents, and their own entry may come later', async () => {
    expect(
      await shape(file('a/b/c', 'x'), directory('a/', { mode: 0o700 }), file('/d/../e'.replace('../', ''), '')),
    ).toEqual({
      a: 'dir 700',
      'a/b': 'dir 755 implied',
      'a/b/c': 'file 644 1',
      d: 'dir 755 implied',
      'd/e': 'file 644 0',
    });
    const { tree } = await layerOf(archive(file('a', '')));
    expect(tree.root).toMatchObject({ implied: true, mode: 0o755, mtimeSeconds: 0 });
  });

  it('lets a later entry of the same path win', async () => {
    expect(
      await shape(
        file('f', 'old', { mode: 0o600 }),
        file('./f', 'newer'),
        directory('to-file/'),
        file('to-file/inside', ''),
        file('to-file', 'x'),
        file('to-dir', 'x'),
        directory('to-dir/', { mode: 0o700 }),
        directory('kept/'),
        file('kept/inside', ''),
        directory('kept', { mode: 0o711 }),
        symlink('link', 'kept'),
        directory('link/'),
        file('link/inside', ''),
      ),
    ).toEqual({
      f: 'file 644 5',
      'to-file': 'file 644 1',
      'to-dir': 'dir 700',
      kept: 'dir 711',
      'kept/inside': 'file 644 0',
      link: 'dir 755',
      'link/inside': 'file 644 0',
    });
  });

  it('takes whiteouts and opaque markers as data, in any order', async () => {
    expect(
      await shape(
        whiteout('', 'gone'),
        whiteout('', 'before'),
        file('before', 'x'),
        file('after', 'x'),
        whiteout('', 'after'),
        whiteout('', 'parent'),
        file('parent/child', 'x'),
        opaque('o1'),
        file('o1/brought', 'x'),
        file('o2/brought', 'x'),
        opaque('o2'),
        directory('o2/', { mode: 0o700 }),
        entry({ name: '.wh.link', type: '2', link: 'x' }),
        whiteout('implied', 'x'),
      ),
    ).toEqual({
      gone: 'whiteout',
      before: 'file 644 1',
      after: 'file 644 1',
      parent: 'dir 755 implied',
      'parent/child': 'file 644 1',
      o1: 'opaque 755 implied',
      'o1/brought': 'file 644 1',
      o2: 'opaque 700',
      'o2/brought': 'file 644 1',
      link: 'whiteout',
      implied: 'dir 755 implied',
      'implied/x': 'whiteout',
    });
  });

  it('drops what aufs keeps for itself, but lets hard links name it', async () => {
    expect(
      await shape(
        directory('.wh..wh.plnk/'),
        file('.wh..wh.plnk/12.3', 'linked'),
        file('.wh..wh.aufs', ''),
        hardLink('a', '.wh..wh.plnk/12.3'),
        hardLink('b', '.wh..wh.plnk/12.3'),
        file('d/.wh..wh.orph/x', 'x'),
      ),
    ).toEqual({ a: 'file 644 6', b: '=a', d: 'dir 755 implied' });
  });

  it('takes overlayfs whiteouts as such and drops overlayfs attributes, with a warning each', async () => {
    const order = ['SCHILY.xattr.trusted.overlay.redirect', '/etc'] as const;
    const { tree, warnings } = await layerOf(
      archive(
        entry({ name: 'gone', type: '3' }),
        withPax([order, ['SCHILY.xattr.user.kept', 'k']], { name: 'f', content: 'x' }),
        withPax([['SCHILY.xattr.user.overlay.opaque', 'y']], { name: 'd/', type: '5' }),
        entry({ name: 'null', type: '3', major: 1, minor: 3 }),
      ),
    );
    expect(outline(tree)).toEqual({ gone: 'whiteout', f: 'file 644 1', d: 'dir 644', null: 'character-device' });
    expect(tree.root.children.get('f')).toMatchObject({ xattrs: new Map([['user.kept', Buffer.from('k')]]) });
    expect(warnings).toEqual([
      '2 attributes of overlayfs itself were dropped; the first: trusted.overlay.redirect of "f"',
      '1 character devices 0:0 were taken as whiteouts, which they are to overlayfs; the first: "gone"',
    ]);
  });

  it.each([
    [[symlink('lib', 'usr/lib'), file('lib/x', '')], /"lib\/x" has a symlink in the way: "lib", of the same layer/],
    [[file('f', ''), whiteout('f', 'x')], /has a file in the way/],
    [[file('a/../b', '')], /contains "\.\."/],
    [[withPax([['path', `a/${'n'.repeat(256)}`]], { name: 'x' })], /256 bytes/],
    [[file('.wh.a/b', '')], /lies below the whiteout ".wh.a"/],
    [[file('.wh..', '')], /names nothing/],
    [[file('./', 'x')], /the root of a layer must be a directory/],
    [[entry({ name: 'c', type: '3', major: 4096 })], /"c" is the device 4096:0/],
    [[entry({ name: 'c', type: '4', minor: 2 ** 20 })], /is the device/],
    [[symlink('s', '')], /target of 0 bytes/],
  ])('refuses by name: %#', async (entries, message) => {
    await expect(layerOf(archive(...entries))).rejects.toEqual(invalid(message));
  });

  it.each([
    ['entries', { entries: 4 }, archive(file('a/b/c/d', ''))],
    ['depth', { depth: 2 }, archive(file('a/b/c', ''))],
    ['totalBytes', { totalBytes: 3 }, archive(file('a', 'xx'), file('b', 'xx'))],
  ])('has a limit for %s', async (limit, limits, tar) => {
    await expect(layerOf(tar, { limits })).rejects.toThrow(`(${limit})`);
  });

  it('notices a sink whose digests cannot be', async () => {
    const sink = { add: async () => ({ digest: 'x' as never, chunkDigests: Buffer.alloc(0) }) };
    await expect(layerOf(archive(file('a', 'x')), { sink })).rejects.toThrow(/the sink's digests of "a"/);
  });
});

describe('hard links of a layer', () => {
  it('share the inode of an earlier or later name, through each other too', async () => {
    expect(
      await shape(
        file('a', 'one'),
        hardLink('b', './a'),
        hardLink('early', 'chain'),
        hardLink('chain', '/late'),
        hardLink('chained', 'chain'),
        file('late', 'other'),
        symlink('s', 't'),
        hardLink('s2', 's', { mode: 0o777 }),
        entry({ name: 'p', type: '6' }),
        hardLink('p2', 'p'),
      ),
    ).toEqual({
      a: 'file 644 3',
      b: '=a',
      chain: 'file 644 5',
      chained: '=chain',
      early: '=chain',
      late: '=chain',
      p: 'fifo',
      p2: '=p',
      s: '-> t',
      s2: '=s',
    });
  });

  it('mean what the name was when they came', async () => {
    expect(
      await shape(
        file('a', 'old'),
        hardLink('b', 'a'),
        file('a', 'newer'),
        hardLink('gone', 'nowhere'),
        file('gone', ''),
      ),
    ).toEqual({ a: 'file 644 5', b: 'file 644 3', gone: 'file 644 0' });
  });

  it('say what their own header says, as Docker does', async () => {
    const { tree } = await layerOf(
      archive(
        withPax(
          [
            ['SCHILY.xattr.security.capability', 'c'],
            ['SCHILY.xattr.user.a', '1'],
          ],
          { name: 'a', mode: 0o4755, uid: 1 },
        ),
        withPax([['SCHILY.xattr.user.b', '2']], {
          name: 'b',
          type: '1',
          link: 'a',
          mode: 0o700,
          uid: 2,
          gid: 3,
          mtime: 9,
        }),
      ),
    );
    expect(tree.root.children.get('a')).toMatchObject({ mode: 0o700, uid: 2, gid: 3, mtimeSeconds: 9 });
    expect(tree.root.children.get('a')).toHaveProperty(
      'xattrs',
      new Map([
        ['user.a', Buffer.from('1')],
        ['user.b', Buffer.from('2')],
      ]),
    );
  });

  it('become inodes of their own for names of the layers below', async () => {
    const below = (await layerOf(archive(file('d/a', 'xyz', { mode: 0o640, uid: 5 }), symlink('d/s', 't')))).tree;
    const lower = stack([below]);
    const before = encodeIndex(lower);
    const { tree } = await layerOf(archive(hardLink('one', 'd/a'), hardLink('two', 'd/a'), hardLink('s2', 'd/s')), {
      lower,
    });
    expect(outline(tree)).toEqual({ one: 'file 640 3', two: '=one', s2: '-> t' });
    expect(tree.root.children.get('one')).toMatchObject({ uid: 5 });
    expect(tree.root.children.get('one')).not.toBe(lower.root.children.get('d'));
    expect(encodeIndex(lower)).toEqual(before);
    expect(outline(stack([below, tree]))).toMatchObject({ 'd/a': 'file 640 3', one: '=d/a', two: '=d/a', s2: '=d/s' });
  });

  it.each([
    [[hardLink('a', 'b')], /"a" leads to "b", which is neither in this layer nor below it/],
    [[hardLink('a', 'b'), hardLink('b', 'a')], /which is neither/],
    [[hardLink('a', 'b'), hardLink('b', 'c'), hardLink('c', 'a')], /round in a circle/],
    [[file('a', ''), hardLink('a', './a')], /"a" is a hard link to itself/],
    [[directory('d/'), hardLink('a', 'd')], /"a" leads to "d", which is a directory/],
    [[hardLink('a', 'd'), directory('d/')], /"a" leads to "d", which is a directory/],
    [[hardLink('a', 'lower')], /"a" leads to "lower", which is a directory/],
    [[hardLink('a', '../b')], /".."/],
  ])('are refused where they cannot be: %#', async (entries, message) => {
    const lower = stack([(await layerOf(archive(directory('lower/')))).tree]);
    await expect(layerOf(archive(...entries), { lower })).rejects.toEqual(invalid(message));
  });
});
