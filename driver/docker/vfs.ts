import { chmod, mkdir, readdir, readFile, rename, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import type { Abortable } from '#core/abort.ts';
import { temporaryName, writeAtomically } from '#core/atomic-file.ts';
import { GearError, orUndefined } from '#core/errors.ts';
import { KeyedLock } from '#core/keyed-lock.ts';
import type { Logger } from '#core/log.ts';
import { copyTree } from '../archive/copy-inode.ts';
import { bytesOfPath } from '../archive/file-status.ts';
import { removeTree } from '../archive/remove-tree.ts';
import { backingFilesystem } from './backing-filesystem.ts';
import type { CreateOptions, Driver, ProtoDriver, StatusLine } from './driver.ts';
import { DriverError, layerExists, unknownLayer } from './errors.ts';
import { NaiveDiffDriver, type NaiveDiffOptions } from './naive-diff.ts';
import type { DriverContext } from './registry.ts';

interface LayerFacts {
  readonly parent: string;
  readonly readWrite: boolean;
}

/**
 * The reference driver: every layer is a folder with a whole copy of its parent, so it works on any filesystem and nothing about it is clever.
 *
 *     <home>/layers/<id>/root         the layer's filesystem
 *     <home>/layers/<id>/layer.json   its parent and kind
 *     <home>/building/                layers that are being copied or removed; nothing there outlives a start
 */
export async function createVfs(
  context: DriverContext,
  options: Pick<NaiveDiffOptions, 'untilNextSecond'> = {},
): Promise<Driver> {
  for (const option of context.options) {
    throw new DriverError('invalid-option', `the vfs driver takes no storage options; refused: ${option}`);
  }
  if (context.uidMaps.length > 0 || context.gidMaps.length > 0) {
    throw new DriverError('invalid-option', 'the vfs driver does not support user namespaces (id maps)');
  }
  if (!isAbsolute(context.home)) {
    throw new DriverError('invalid-option', `the home of the vfs driver has to be absolute: ${context.home}`);
  }
  const driver = new Vfs(context.home, context.log);
  await driver.open();
  return new NaiveDiffDriver(driver, { ...options, log: context.log });
}

class Vfs implements ProtoDriver {
  readonly name = 'vfs';
  readonly #home: string;
  readonly #log: Logger;
  readonly #locks = new KeyedLock<string>();

  constructor(home: string, log: Logger) {
    this.#home = home;
    this.#log = log;
  }

  async open(): Promise<void> {
    await mkdir(join(this.#home, 'layers'), { recursive: true, mode: 0o710 });
    await removeTree(bytesOfPath(this.#building('')));
    await mkdir(this.#building(''), { mode: 0o700 });
  }

  async create(id: string, parent: string, options: CreateOptions): Promise<void> {
    await this.#create(id, { parent, readWrite: false }, options);
  }

  async createReadWrite(id: string, parent: string, options: CreateOptions): Promise<void> {
    await this.#create(id, { parent, readWrite: true }, options);
  }

  async #create(id: string, facts: LayerFacts, { storageOpt, signal }: CreateOptions): Promise<void> {
    for (const option of Object.keys(storageOpt)) {
      throw new DriverError('invalid-option', `the vfs driver does not support the storage option ${option}`);
    }
    using _lock = await this.#locks.acquire(id, { signal });
    const known = await this.#facts(id);
    if (known !== undefined) {
      // Made again: a call whose connection broke is repeated.
      if (known.parent === facts.parent && known.readWrite === facts.readWrite) return;
      throw layerExists(id);
    }
    const parent = facts.parent === '' ? undefined : await this.#root(facts.parent);
    await using undo = new AsyncDisposableStack();
    const building = this.#building(temporaryName());
    undo.defer(() => removeTree(bytesOfPath(building)));
    const root = join(building, 'root');
    await mkdir(root, { recursive: true, mode: 0o755 });
    await chmod(root, 0o755);
    if (parent !== undefined) await copyTree(bytesOfPath(parent), bytesOfPath(root), { signal, log: this.#log });
    await writeAtomically(join(building, 'layer.json'), JSON.stringify(facts), { flush: false });
    await rename(building, this.#folder(id));
  }

  async remove(id: string, { signal }: Abortable = {}): Promise<void> {
    using _lock = await this.#locks.acquire(id, { signal });
    const building = this.#building(temporaryName());
    await orUndefined(rename(this.#folder(id), building), 'ENOENT');
    await removeTree(bytesOfPath(building));
  }

  async get(id: string, _mountLabel: string): Promise<string> {
    return await this.#root(id);
  }

  async put(_id: string): Promise<void> {
    // Nothing is mounted.
  }

  async exists(id: string): Promise<boolean> {
    return (await orUndefined(stat(this.#folder(id)), 'ENOENT')) !== undefined;
  }

  async status(): Promise<StatusLine[]> {
    const layers = await readdir(join(this.#home, 'layers'));
    return [
      ['Backing Filesystem', (await backingFilesystem(this.#home)).name],
      ['Layers', String(layers.length)],
    ];
  }

  async getMetadata(id: string): Promise<Record<string, string>> {
    return { Dir: await this.#root(id) };
  }

  async cleanup(): Promise<void> {
    // Nothing is mounted.
  }

  async #root(id: string): Promise<string> {
    const root = join(this.#folder(id), 'root');
    if ((await orUndefined(stat(root), 'ENOENT')) === undefined) throw unknownLayer(id);
    return root;
  }

  async #facts(id: string): Promise<LayerFacts | undefined> {
    const text = await orUndefined(readFile(join(this.#folder(id), 'layer.json'), 'utf8'), 'ENOENT');
    if (text === undefined) return undefined;
    try {
      const { parent, readWrite } = JSON.parse(text) as Partial<LayerFacts>;
      return { parent: parent ?? '', readWrite: readWrite === true };
    } catch (error) {
      throw new GearError('corrupt', `layer ${id}: layer.json is not JSON; remove the layer`, { cause: error });
    }
  }

  #folder(id: string): string {
    return join(this.#home, 'layers', id);
  }

  #building(name: string): string {
    return join(this.#home, 'building', name);
  }
}
