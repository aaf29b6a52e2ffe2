import { hash } from 'node:crypto';
import type { ByteString } from '#core/index/tree.ts';
import type { Change, DiffDriver, ProtoDriver } from '../../driver/docker/driver.ts';
import { NO_OPTIONS } from '../../driver/docker/driver.ts';
import { Random } from './random.ts';
import { pieces, type ReadEntry, readAll } from './tar-read.ts';
import { diffTrees, type TreeManifest, treeOf } from './tree.ts';
import { type Mutation, randomMutation } from './tree-mutations.ts';

/** A driver, or a client of one. */
export type Subject = ProtoDriver & DiffDriver;

export interface DifferentialOptions {
  /** The same seed gives the same operations. */
  readonly seed: number;
  readonly steps: number;
}

interface Layer {
  readonly id: string;
  readonly parent: string;
  readonly readWrite: boolean;
  /** Gets that were not put back yet, besides those of a single step. */
  held: number;
}

/**
 * Does the same random operations with two drivers and throws at the first difference, in an answer or in a tree, with the seed and all operations so
 * far. Both start empty and are left empty. Gives how often each operation was done.
 */
export async function runDifferential(
  first: Subject,
  second: Subject,
  options: DifferentialOptions,
): Promise<Map<string, number>> {
  const run = new Run(first, second, options);
  try {
    await run.all(options.steps);
  } catch (error) {
    const history = run.history.slice(-60).join('\n  ');
    throw new Error(
      `${first.name} and ${second.name} differ, seed ${options.seed}, step ${run.history.length}: ${(error as Error).message}\n  ${history}`,
      { cause: error },
    );
  }
  return run.counts;
}

class Run {
  readonly history: string[] = [];
  readonly counts = new Map<string, number>();
  readonly #drivers: readonly [Subject, Subject];
  readonly #random: Random;
  readonly #layers = new Map<string, Layer>();
  #next = 0;
  #clock = 1_000_000_000;

  constructor(first: Subject, second: Subject, { seed }: DifferentialOptions) {
    this.#drivers = [first, second];
    this.#random = new Random(seed);
  }

  async all(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) await this.#step();
    for (const layer of [...this.#layers.values()].reverse()) await this.#remove(layer);
    await this.#both('cleanup', (driver) => driver.cleanup());
  }

  async #step(): Promise<void> {
    const layer = this.#anyLayer();
    const dice = this.#random.next();
    if (layer === undefined || dice < 0.12) return void (await this.#create(this.#random.chance(0.6)));
    if (dice < 0.5) return await this.#mutate();
    if (dice < 0.58) return await this.#compareTrees(layer);
    if (dice < 0.66) return await this.#changes(layer);
    if (dice < 0.72) return await this.#diffSize(layer);
    if (dice < 0.78) return void (await this.#diff(layer));
    if (dice < 0.88) return await this.#applyDiff(layer);
    if (dice < 0.92) return await this.#hold(layer);
    if (dice < 0.95) return await this.#unknown();
    const leaves = [...this.#layers.values()].filter((each) => this.#isLeaf(each));
    if (this.#layers.size > 4 && leaves.length > 0) await this.#remove(this.#random.pick(leaves));
  }

  #note(operation: string, text: string): void {
    this.counts.set(operation, (this.counts.get(operation) ?? 0) + 1);
    this.history.push(`${operation} ${text}`);
  }

  /** Does the same with both and gives what they answered, or throws where one fails and the other does not. */
  async #both<T>(what: string, work: (driver: Subject) => Promise<T>): Promise<[T, T] | undefined> {
    const [a, b] = await Promise.allSettled(this.#drivers.map(work));
    if (a?.status === 'fulfilled' && b?.status === 'fulfilled') return [a.value, b.value];
    if (a?.status === 'rejected' && b?.status === 'rejected') return undefined;
    const failed = a?.status === 'rejected' ? a : (b as PromiseRejectedResult);
    throw new Error(`${what}: only one fails, with: ${String((failed.reason as Error).stack ?? failed.reason)}`, {
      cause: failed.reason,
    });
  }

  async #same<T>(what: string, work: (driver: Subject) => Promise<T>): Promise<T | undefined> {
    const answers = await this.#both(what, work);
    if (answers === undefined) return undefined;
    const [a, b] = answers.map((answer) => JSON.stringify(answer));
    if (a !== b) throw new Error(`${what}: ${a} is not ${b}`);
    return answers[0];
  }

  /** Gets the layer from both, works with the roots, and puts it back. */
  async #mounted<T>({ id }: Layer, work: (roots: [string, string]) => Promise<T>): Promise<T> {
    const roots = await this.#both(`get ${id}`, (driver) => driver.get(id, ''));
    if (roots === undefined) throw new Error(`get ${id} fails with both`);
    try {
      return await work(roots);
    } finally {
      await this.#both(`put ${id}`, (driver) => driver.put(id));
    }
  }

  async #create(readWrite: boolean): Promise<Layer> {
    const id = `layer${this.#next++}`;
    const depth = (layer: Layer): number => {
      const parent = this.#layers.get(layer.parent);
      return parent === undefined ? 1 : 1 + depth(parent);
    };
    const parents = [...this.#layers.values()].filter((layer) => depth(layer) < 8 && layer.held === 0);
    const parent = parents.length === 0 || this.#random.chance(0.1) ? '' : this.#random.pick(parents).id;
    return await this.#createOn(id, parent, readWrite);
  }

  async #createOn(id: string, parent: string, readWrite: boolean): Promise<Layer> {
    this.#note(readWrite ? 'createReadWrite' : 'create', `${id} on ${parent || 'nothing'}`);
    const layer = { id, parent, readWrite, held: 0 };
    const made = await this.#both(`create ${id}`, (driver) =>
      readWrite ? driver.createReadWrite(id, parent, NO_OPTIONS) : driver.create(id, parent, NO_OPTIONS),
    );
    if (made === undefined) throw new Error(`create ${id} fails with both`);
    this.#layers.set(id, layer);
    return layer;
  }

  async #mutate(): Promise<void> {
    const layers = [...this.#layers.values()].filter((layer) => layer.readWrite && this.#isLeaf(layer));
    if (layers.length === 0) {
      await this.#create(true);
      return;
    }
    const layer = this.#random.pick(layers);
    await this.#mounted(layer, async ([a, b]) => {
      for (let count = this.#random.int(1, 6); count > 0; count--) {
        const mutation = randomMutation(this.#random, await namesOf(a), layer.id, this.#clock++);
        this.#note('mutate', `${layer.id}: ${mutation.text}`);
        applyToBoth(mutation, a, b);
      }
    });
  }

  async #compareTrees(layer: Layer): Promise<void> {
    this.#note('compare trees', layer.id);
    await this.#mounted(layer, async ([a, b]) => {
      const differences = diffTrees(await visibleTree(a), await visibleTree(b));
      if (differences.length > 0) throw new Error(`the trees of ${layer.id}:\n    ${differences.join('\n    ')}`);
    });
  }

  async #changes(layer: Layer): Promise<void> {
    const parent = this.#comparable(layer);
    this.#note('changes', `${layer.id} against ${parent || 'nothing'}`);
    await this.#same(`changes of ${layer.id}`, async (driver) => sorted(await driver.changes(layer.id, parent)));
  }

  async #diffSize(layer: Layer): Promise<void> {
    const parent = this.#comparable(layer);
    this.#note('diffSize', `${layer.id} against ${parent || 'nothing'}`);
    await this.#same(`diffSize of ${layer.id}`, (driver) => driver.diffSize(layer.id, parent));
  }

  async #diff(layer: Layer): Promise<Buffer> {
    const parent = this.#comparable(layer);
    this.#note('diff', `${layer.id} against ${parent || 'nothing'}`);
    const tars = await this.#both(`diff of ${layer.id}`, async (driver) =>
      Buffer.concat(await Array.fromAsync(await driver.diff(layer.id, parent))),
    );
    if (tars === undefined) throw new Error(`diff of ${layer.id} fails with both`);
    const [a, b] = [await readAll(tars[0]), await readAll(tars[1])].map((entries) => entries.map(shownEntry));
    if (JSON.stringify(a) !== JSON.stringify(b)) {
      const lines = (a as string[]).filter((line) => !b?.includes(line)).map((line) => `only first: ${line}`);
      lines.push(...(b as string[]).filter((line) => !a?.includes(line)).map((line) => `only second: ${line}`));
      throw new Error(`the diffs of ${layer.id}:\n    ${lines.join('\n    ') || 'the order'}`);
    }
    return tars[0];
  }

  /** Applies a layer's diff to a new layer on the same parent, which then has to look like the layer. */
  async #applyDiff(source: Layer): Promise<void> {
    const tar = await this.#diff(source);
    const parent = this.#lastParent;
    const layer = await this.#createOn(`layer${this.#next++}`, parent, false);
    this.#note('applyDiff', `${source.id} to ${layer.id}`);
    const size = await this.#same(`applyDiff to ${layer.id}`, (driver) =>
      driver.applyDiff(layer.id, parent, pieces(tar, 10_000)),
    );
    const diffSize = await this.#same(`diffSize of ${source.id}`, (driver) => driver.diffSize(source.id, parent));
    if (size !== diffSize)
      throw new Error(`applyDiff to ${layer.id} says ${size} bytes, diffSize of ${source.id} ${diffSize}`);
    await this.#compareTrees(layer);
    await this.#mounted(source, async (originals) => {
      await this.#mounted(layer, async (copies) => {
        for (const [index, original] of originals.entries()) {
          const differences = diffTrees(await tarredTree(original), await tarredTree(copies[index] as string));
          if (differences.length === 0) continue;
          const name = this.#drivers[index]?.name;
          throw new Error(`${name}: ${source.id} and its copy ${layer.id}:\n    ${differences.join('\n    ')}`);
        }
      });
    });
  }

  #lastParent = '';

  /** What to compare a layer with: mostly its parent, sometimes nothing. */
  #comparable(layer: Layer): string {
    this.#lastParent = this.#random.chance(0.15) ? '' : layer.parent;
    return this.#lastParent;
  }

  /** A Get that is put back later, or the Put of one. */
  async #hold(layer: Layer): Promise<void> {
    if (layer.held === 0 && layer.readWrite) {
      this.#note('hold', layer.id);
      layer.held++;
      await this.#both(`get ${layer.id}`, (driver) => driver.get(layer.id, ''));
    } else {
      this.#note('put', layer.id);
      // One more than there were, sometimes: succeeds.
      if (layer.held > 0) layer.held--;
      await this.#same(`put ${layer.id}`, (driver) => driver.put(layer.id));
    }
  }

  async #unknown(): Promise<void> {
    const id = `unknown${this.#random.int(0, 9)}`;
    this.#note('unknown layer', id);
    await this.#same(`exists ${id}`, (driver) => driver.exists(id));
    const failing: ((driver: Subject) => Promise<unknown>)[] = [
      (driver) => driver.get(id, ''),
      (driver) => driver.changes(id, ''),
      (driver) => driver.diffSize(id, ''),
      async (driver) => await Array.fromAsync(await driver.diff(id, '')),
      (driver) => driver.applyDiff(id, '', pieces(Buffer.alloc(1024))),
      (driver) => driver.createReadWrite('child', id, NO_OPTIONS),
    ];
    const answers = await this.#both(`a call for ${id}`, this.#random.pick(failing));
    if (answers !== undefined) throw new Error(`a call for the unknown layer ${id} succeeds with both`);
    await this.#both(`remove ${id}`, (driver) => driver.remove(id));
    await this.#both(`put ${id}`, (driver) => driver.put(id));
  }

  async #remove(layer: Layer): Promise<void> {
    this.#note('remove', layer.id);
    for (; layer.held > 0; layer.held--) await this.#both(`put ${layer.id}`, (driver) => driver.put(layer.id));
    await this.#both(`remove ${layer.id}`, (driver) => driver.remove(layer.id));
    this.#layers.delete(layer.id);
    const there = await this.#same(`exists ${layer.id}`, (driver) => driver.exists(layer.id));
    if (there !== false) throw new Error(`${layer.id} is still there after its removal`);
  }

  #anyLayer(): Layer | undefined {
    const layers = [...this.#layers.values()];
    return layers.length === 0 ? undefined : this.#random.pick(layers);
  }

  #isLeaf(layer: Layer): boolean {
    return ![...this.#layers.values()].some(({ parent }) => parent === layer.id);
  }
}

function applyToBoth(mutation: Mutation, a: string, b: string): void {
  const errors = [a, b].map((root) => {
    try {
      mutation.apply(root);
      return undefined;
    } catch (error) {
      return error as Error;
    }
  });
  if ((errors[0] === undefined) !== (errors[1] === undefined)) {
    throw new Error(`${mutation.text}: only one fails, with: ${(errors[0] ?? errors[1])?.message}`);
  }
}

async function namesOf(root: string): Promise<TreeManifest> {
  return await treeOf(root, { content: false });
}

/** The root is made by the driver, so its time says nothing. */
async function visibleTree(root: string): Promise<TreeManifest> {
  const tree = await treeOf(root);
  const top = tree.get('');
  if (top !== undefined) tree.set('', { ...top, mtime: 0n });
  return tree;
}

/** What a layer's diff tells of a tree: whole seconds, of a directory no time and no xattrs (they are no change to Docker), nothing of the root. */
export async function tarredTree(root: string): Promise<TreeManifest> {
  const tree = await treeOf(root);
  tree.delete('');
  for (const [path, entry] of tree) {
    const isDirectory = entry.type === 'directory';
    tree.set(path, {
      ...entry,
      mtime: isDirectory ? 0n : entry.mtime / 1_000_000_000n,
      ...(isDirectory ? { xattrs: {} } : {}),
    });
  }
  return tree;
}

function sorted(changes: readonly Change[]): { path: ByteString; kind: number }[] {
  return [...changes].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

function shownEntry({ body, xattrs, ...header }: ReadEntry): string {
  const values = [...xattrs].sort().map(([name, value]) => [name, value.toString('hex')]);
  return JSON.stringify({ ...header, xattrs: values, body: hash('sha256', body) });
}
