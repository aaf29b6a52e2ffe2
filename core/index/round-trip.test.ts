import { describe, expect, it } from 'vitest';
import { hostileImage, strangeLayers } from '../../test/images/hostile.ts';
import { CHUNK_SIZE, layerOf, MemorySink, outline } from '../../test/support/layer.ts';
import { Random } from '../../test/support/random.ts';
import { randomTree } from '../../test/support/random-tree.ts';
import { tarOf } from '../../test/support/tree-tar.ts';
import { isGearError } from '../errors.ts';
import { decodeIndex, encodeIndex } from './encode.ts';
import { stack } from './stack.ts';
import type { Tree } from './tree.ts';

describe('a tree as a tar', () => {
  it('is the same tree when it is read again', async () => {
    for (let seed = 0; seed < 60; seed++) {
      const { tree, contents } = randomTree(seed, { chunkSize: CHUNK_SIZE, entries: 80 });
      const sink = new MemorySink();
      const { tree: layer, warnings } = await layerOf(await tarOf(tree, contents), { sink });
      expect(warnings).toEqual([]);
      expect(encodeIndex(stack([layer])).equals(encodeIndex(tree))).toBe(true);
      expect(sink.contents).toEqual(contents);
    }
  });

  it('gives a valid layer or a GearError, whatever is changed in it', async () => {
    const { tree, contents } = randomTree(4, { chunkSize: CHUNK_SIZE, entries: 40, fileBytes: 3000 });
    const whole = await tarOf(tree, contents);
    const random = new Random(9);
    let read = 0;
    for (let round = 0; round < 400; round++) {
      const damaged = Buffer.from(whole);
      // A block that is also an entry's header; elsewhere only contents change.
      const block = random.int(0, damaged.length / 512 - 1) * 512;
      const at = block + random.pick([random.int(0, 99), random.int(100, 300), 156]);
      damaged[at] = random.pick([0, 0x2e, 0x2f, 0x31, 0x32, 0x33, 0x35, random.int(0, 255)]);
      damaged.fill(0x20, block + 148, block + 156);
      const sum = damaged.subarray(block, block + 512).reduce((total, byte) => total + byte, 0);
      damaged.write(`${sum.toString(8).padStart(6, '0')}\0 `, block + 148, 'latin1');
      try {
        const { tree: layer } = await layerOf(damaged);
        const bytes = encodeIndex(layer);
        expect(encodeIndex(decodeIndex(bytes)).equals(bytes)).toBe(true);
        read++;
      } catch (error) {
        if (!isGearError(error)) throw error;
      }
    }
    expect(read).toBeGreaterThan(50);
    expect(read).toBeLessThan(400);
  });
});

describe('the images of the end-to-end tests', () => {
  const treesOf = async (tars: readonly Buffer[]): Promise<Tree[]> => {
    const trees: Tree[] = [];
    for (const tar of tars) trees.push((await layerOf(tar, { lower: stack(trees) })).tree);
    return trees;
  };

  it('are read, stacked, and encoded', async () => {
    const trees = await treesOf(hostileImage().layers.map(({ tar }) => tar as Buffer));
    for (const tree of [...trees, stack(trees)]) {
      expect(decodeIndex(encodeIndex(tree))).toEqual(tree);
    }
    const seen = outline(stack(trees));
    expect(seen).toMatchObject({
      'change/file-to-folder/new': expect.stringContaining('file'),
      'change/folder-to-file': expect.stringContaining('file'),
      'change/kept-folder': 'dir 750',
      'change/kept-folder/kept': expect.stringContaining('file'),
      'data/sparse': 'file 644 300000',
      'links/second': '=links/first',
      'white/back/first': expect.stringContaining('file'),
      'white/opaque-last': 'dir 755',
      'white/opaque-last/new': expect.stringContaining('file'),
    });
    for (const gone of ['white/removed', 'white/removed-folder', 'white/opaque-last/old', 'white/opaque-first/old']) {
      expect(seen).not.toHaveProperty([gone]);
    }
  });

  it('are what they must be where Docker itself fails', async () => {
    const seen = outline(stack(await treesOf(strangeLayers().map(({ tar }) => tar as Buffer))));
    expect(seen).toMatchObject({
      'implied/parents/of': 'dir 755',
      'links/before': expect.stringContaining('file 640'),
      'links/target': '=links/before',
      'links/upper': '=links/lower',
      'same/after': expect.stringContaining('file'),
      'same/in-lower': 'file 644 5',
      'old-sparse': 'file 644 8192',
    });
    expect(seen).not.toHaveProperty(['.wh..wh.plnk']);
  });
});
