import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { isGearError } from '#core/errors.ts';
import { ChunkHasher } from '#core/index/chunks.ts';
import { layerFromTar, type ObjectSink } from '#core/index/layer.ts';
import { stack } from '#core/index/stack.ts';
import { DEFAULT_CHUNK_SIZE, type Tree } from '#core/index/tree.ts';
import { readTar } from '#core/tar/reader.ts';
import { applyLayer } from '../../driver/archive/apply.ts';
import { mountOverlay } from '../../driver/kernel/overlay.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { manifestOf } from '../support/index-manifest.ts';
import { type LayerEntry, layerTar } from '../support/layer-tar.ts';
import { Random } from '../support/random.ts';
import { randomLayer } from '../support/random-layer.ts';
import { pieces } from '../support/tar-read.ts';
import { diffTrees, treeOf } from '../support/tree.ts';

const LAYERS = 4;

const sink: ObjectSink = {
  async add(content) {
    const hasher = new ChunkHasher(DEFAULT_CHUNK_SIZE);
    for await (const piece of content) hasher.update(piece);
    return hasher.digests();
  },
};

/** The refusal of a layer, in words; undefined where it is taken. Any other failure is thrown. */
async function refusalOf(work: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (isGearError(error, 'invalid-argument')) return error.message;
    throw error;
  }
}

const shown = (entries: readonly LayerEntry[]): string =>
  JSON.stringify(entries.map(({ path, type, link }) => [path, type, link]));
const withoutSlash = (path: string): string => path.replace(/\/$/, '');
const parentsOf = (path: string): string[] =>
  withoutSlash(path)
    .split('/')
    .map((_, depth, names) => names.slice(0, depth).join('/'));

/** Whether a name is a directory and also something else in one layer: then only the order of the entries tells what a plain tree shows. */
function changesItsMind(entries: readonly LayerEntry[]): boolean {
  const directories = new Set(entries.flatMap(({ path }) => parentsOf(path)));
  for (const { path } of entries) if (path.endsWith('/')) directories.add(withoutSlash(path));
  return entries.some(({ path, type }) => (!path.endsWith('/') || type !== undefined) && directories.has(path));
}

/** Lines of diffTrees without those that say nothing: of the root, whose time is the driver's, and of links between layers. */
function telling(lines: readonly string[], without: ReadonlySet<string> = new Set()): string[] {
  return lines.filter((line) => {
    const path = JSON.parse(line.slice(0, line.indexOf('": ') + 1)) as string;
    return path !== '' && !without.has(path) && !/: (nlink|sameAs) /.test(line);
  });
}

it.each([0, 1, 2, 3])('an index, overlay layers and a plain tree agree on random layers, batch %i', async (batch) => {
  let [taken, refused, plainlyCompared] = [0, 0, 0];
  for (let seed = batch * 60; seed < batch * 60 + 60; seed++) {
    await using folder = await temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    for (const name of ['empty', 'plain']) await mkdir(at(name));
    const random = new Random(seed);
    const trees: Tree[] = [];
    const below = [at('empty')];
    const implied = new Set<string>();
    let view = at('empty');
    let plainToo = true;
    for (let number = 0; number < LAYERS; number++) {
      const entries = randomLayer(random, random.int(1, 8));
      const tar = await layerTar(entries);
      const where = `seed ${seed}, layer ${number}: ${shown(entries)}`;
      const diff = at(`diff${number}`);
      await mkdir(diff);
      const lower = trees.length === 0 ? undefined : stack(trees);
      const options = { chunkSize: DEFAULT_CHUNK_SIZE, lower };
      let tree: Tree | undefined;
      const byIndex = await refusalOf(async () => {
        tree = (await layerFromTar(readTar(pieces(tar)), sink, options)).tree;
      });
      const byOverlay = await refusalOf(() => applyLayer(pieces(tar), diff, { format: 'overlay', lower: view }));
      expect(byOverlay === undefined, `${where}: overlay ${byOverlay}, index ${byIndex}`).toBe(byIndex === undefined);
      if (tree === undefined) {
        refused++;
        await rm(diff, { recursive: true });
        continue;
      }
      taken++;
      trees.push(tree);
      below.unshift(diff);
      view = at(`view${number}`);
      await mkdir(view);
      await mountOverlay(view, { lower: below });
      const merged = await treeOf(view);
      expect(telling(diffTrees(merged, manifestOf(stack(trees)))), where).toEqual([]);

      if (changesItsMind(entries) || entries.some(({ type }) => type === 'hard-link')) plainToo = false;
      if (!plainToo) continue;
      plainlyCompared++;
      await applyLayer(pieces(tar), at('plain'), { format: 'plain' });
      // A plain tree keeps the metadata of directories that a tar only implies.
      const named = new Set(entries.map(({ path }) => withoutSlash(path)));
      for (const path of entries.flatMap((entry) => parentsOf(entry.path))) if (!named.has(path)) implied.add(path);
      expect(telling(diffTrees(merged, await treeOf(at('plain'))), implied), where).toEqual([]);
    }
  }
  expect([taken > 60, refused > 30, plainlyCompared > 30]).toEqual([true, true, true]);
});
