import { describe, expect, it } from 'vitest';
import { archive, directory, file, hardLink, symlink, whiteout } from '../../test/images/tar-bytes.ts';
import { layerOf, outline } from '../../test/support/layer.ts';
import { randomTree } from '../../test/support/random-tree.ts';
import { encodeIndex } from './encode.ts';
import { stack } from './stack.ts';
import type { Tree } from './tree.ts';

const image = async (...layers: Buffer[][]) => {
  const trees: Tree[] = [];
  for (const entries of layers) {
    trees.push((await layerOf(archive(...entries), { lower: stack(trees) })).tree);
  }
  return stack(trees);
};
const opaque = (folder: string) => whiteout(folder, '.wh..opq');

describe('stack', () => {
  it('lays layers over each other', async () => {
    const tree = await image(
      [
        directory('d/', { mode: 0o700 }),
        file('d/kept', 'k'),
        file('d/gone', 'g'),
        file('d/replaced', 'old'),
        file('was-file', ''),
        directory('was-dir/'),
        file('was-dir/inside', ''),
        symlink('was-link', 'd'),
        file('o/old', ''),
        file('gone-dir/inside', ''),
      ],
      [
        directory('d/', { mode: 0o711 }),
        whiteout('d', 'gone'),
        file('d/replaced', 'newer'),
        file('was-file/inside', 'x'),
        file('was-dir', 'x'),
        file('was-link/new', 'x'),
        opaque('o'),
        file('o/new', 'x'),
        whiteout('', 'gone-dir'),
        whiteout('', 'never-there'),
      ],
    );
    expect(tree.kind).toBe('image');
    expect(outline(tree)).toEqual({
      d: 'dir 711',
      'd/kept': 'file 644 1',
      'd/replaced': 'file 644 5',
      o: 'dir 755',
      'o/new': 'file 644 1',
      'was-dir': 'file 644 1',
      'was-file': 'dir 755',
      'was-file/inside': 'file 644 1',
      'was-link': 'dir 755',
      'was-link/new': 'file 644 1',
    });
  });

  it('lets a directory come back without what was in it', async () => {
    const tree = await image([file('d/old', '')], [whiteout('', 'd')], [file('d/new', '')]);
    expect(outline(tree)).toEqual({ d: 'dir 755', 'd/new': 'file 644 0' });
    expect(outline(await image([file('d/old', '')], [opaque('')], [file('a', '')]))).toEqual({ a: 'file 644 0' });
  });

  it('takes metadata of implied directories as overlay2 does, but not of an implied root', async () => {
    const tree = await image(
      [directory('./', { mode: 0o700, uid: 4 }), directory('tmp/', { mode: 0o1777, uid: 5 })],
      [file('tmp/a', '')],
    );
    expect(tree.root).toMatchObject({ mode: 0o700, uid: 4 });
    expect(tree.root.children.get('tmp')).toMatchObject({ mode: 0o755, uid: 0, mtimeSeconds: 0 });
    expect(tree.root.children.get('tmp')).not.toHaveProperty('implied');
    expect((await image([directory('./', { mode: 0o700 })], [directory('./', { mode: 0o711 })])).root.mode).toBe(0o711);
  });

  it('joins links to lower layers only while the lower name is the same', async () => {
    const lower = [file('a', 'one'), hardLink('a2', 'a')];
    expect(outline(await image(lower, [hardLink('b', 'a')]))).toEqual({ a: 'file 644 3', a2: '=a', b: '=a' });
    expect(outline(await image(lower, [hardLink('b', 'a')], [file('a', 'new!')]))).toEqual({
      a: 'file 644 4',
      a2: 'file 644 3',
      b: '=a2',
    });
    expect(outline(await image(lower, [hardLink('b', 'a')], [whiteout('', 'a'), whiteout('', 'a2')]))).toEqual({
      b: 'file 644 3',
    });
    expect(outline(await image(lower, [hardLink('b', 'a')], [hardLink('c', 'b'), whiteout('', 'b')]))).toEqual({
      a: 'file 644 3',
      a2: '=a',
      c: '=a',
    });
  });

  it('changes none of its layers and depends on nothing but them', () => {
    const layers = [1, 2, 3].map((seed) => randomTree(seed, { kind: 'layer', entries: 150 }).tree);
    const before = layers.map(encodeIndex);
    const one = stack(layers);
    expect(encodeIndex(one)).toEqual(encodeIndex(stack(layers)));
    one.root.children.clear();
    expect(layers.map(encodeIndex)).toEqual(before);
  });

  it('is the same in one go and step by step', () => {
    for (let seed = 0; seed < 30; seed++) {
      const layers = [0, 1, 2].map((at) => randomTree(seed * 3 + at, { kind: 'layer', entries: 60 }).tree);
      const [a, b, c] = layers as [Tree, Tree, Tree];
      expect(encodeIndex(stack([stack([a, b]), c]))).toEqual(encodeIndex(stack([a, b, c])));
    }
  });

  it('has an empty image for no layers, and none for different chunk sizes', () => {
    expect(stack([])).toMatchObject({ kind: 'image', chunkSize: 131072, root: { mode: 0o755 } });
    const layers = [4096, 8192].map((chunkSize) => randomTree(1, { kind: 'layer', chunkSize, fileBytes: 100 }).tree);
    expect(() => stack(layers)).toThrow(/4096 and 8192 bytes a chunk/);
  });
});
