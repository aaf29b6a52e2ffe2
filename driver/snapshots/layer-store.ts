import { renameSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryName, writeAtomically } from '#core/atomic-file.ts';
import { GearError, orUndefined } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { HOME_MARK } from '../images/users.ts';
import { removeFolder, unmountTree } from '../kernel/mount.ts';
import { type Layer, type LayerRecord, layerIn, parseLayerRecord } from './layer.ts';

/** A layer that lies under a temporary name. Disposing it removes it, unless it was published. */
export interface StagedLayer extends AsyncDisposable {
  /** As it is going to be; its files still lie in `staged`. */
  readonly layer: Layer;
  readonly staged: string;
  /** Gives it its name, at once: for a caller that writes its own record of it in the same moment. */
  publish(): Layer;
}

/** Docker itself stops at 125 and overlay2 at 128. */
const MAX_DEPTH = 500;
/** Beside a layer's folders; see LayerRecord. */
const RECORD = 'layer.json';

/**
 * The layers of one home, a folder each. A layer is made under a temporary name and renamed, and renamed away before it is removed, so each that
 * is found under its id is whole.
 */
export class LayerStore {
  readonly home: string;
  readonly #layers: Map<string, Layer>;

  private constructor(home: string, layers: Map<string, Layer>) {
    this.home = home;
    this.#layers = layers;
  }

  /** Opens a home, which is made where it is missing, and removes what an earlier process left half-made. */
  static async open(home: string, log: Logger): Promise<LayerStore> {
    await mkdir(home, { recursive: true, mode: 0o700 });
    await writeFile(join(home, HOME_MARK), '');
    const layers = new Map<string, Layer>();
    for (const entry of await readdir(home, { withFileTypes: true })) {
      if (entry.name.startsWith('.tmp-')) {
        await unmountTree(join(home, entry.name), { detach: true });
        await removeFolder(join(home, entry.name));
        continue;
      }
      if (!entry.isDirectory()) continue;
      const text = await orUndefined(readFile(join(home, entry.name, RECORD), 'utf8'), 'ENOENT');
      if (text === undefined) {
        log.warn({ path: join(home, entry.name) }, 'not a layer; left alone');
        continue;
      }
      // A power cut may have emptied what was not flushed; one damaged layer must not take the others with it.
      try {
        layers.set(entry.name, layerIn(home, parseLayerRecord(text, entry.name)));
      } catch (err) {
        log.error({ err, layer: entry.name }, 'damaged layer left alone');
      }
    }
    return new LayerStore(home, layers);
  }

  list(): Layer[] {
    return [...this.#layers.values()];
  }

  find(id: string): Layer | undefined {
    return this.#layers.get(id);
  }

  /** Throws not-found. */
  get(id: string): Layer {
    const layer = this.#layers.get(id);
    if (layer === undefined) throw new GearError('not-found', `no layer ${id} in ${this.home}`);
    return layer;
  }

  /** The layer and its ancestors, from the top down. Throws not-found for a missing ancestor. */
  chain(id: string): [Layer, ...Layer[]] {
    const top = this.get(id);
    const chain: [Layer, ...Layer[]] = [top];
    for (let parent = top.parent; parent !== ''; ) {
      const layer = this.#layers.get(parent);
      if (layer === undefined)
        throw new GearError('not-found', `layer ${id} stands on layer ${parent}, which is not in ${this.home}`);
      if (chain.length >= MAX_DEPTH)
        throw new GearError('failed-precondition', `layer ${id} stands on more than ${MAX_DEPTH} layers`);
      chain.push(layer);
      parent = layer.parent;
    }
    return chain;
  }

  /** Makes an empty layer. Making again what is there and has the same parent succeeds. Throws already-exists, and not-found for the parent. */
  async create(id: string, parent: string, readWrite: boolean): Promise<Layer> {
    if (parent !== '') this.get(parent);
    const known = this.#layers.get(id);
    if (known !== undefined) {
      if (known.parent === parent && known.readWrite === readWrite) return known;
      throw new GearError(
        'already-exists',
        `layer ${id} exists already, on ${known.parent === '' ? 'no parent' : `layer ${known.parent}`}`,
      );
    }
    await using staged = await this.stage({ version: 1, id, parent, readWrite });
    return staged.publish();
  }

  /** Makes a layer's folders under a temporary name. */
  async stage(record: LayerRecord): Promise<StagedLayer> {
    const layer = layerIn(this.home, record);
    const temporary = join(this.home, temporaryName());
    await using undo = new AsyncDisposableStack();
    undo.defer(() => removeFolder(temporary));
    await mkdir(temporary);
    await mkdir(join(temporary, 'diff'), { mode: 0o755 });
    await mkdir(join(temporary, 'work'), { mode: 0o700 });
    await mkdir(join(temporary, 'merged'), { mode: 0o700 });
    // Under a temporary name nobody reads the record half-written.
    await writeFile(join(temporary, RECORD), recordText(layer));
    const release = undo.move();
    let published = false;
    return {
      layer,
      staged: temporary,
      publish: () => {
        renameSync(temporary, layer.folder);
        published = true;
        this.#layers.set(layer.id, layer);
        return layer;
      },
      [Symbol.asyncDispose]: async () => {
        if (!published) await release.disposeAsync();
      },
    };
  }

  /** Says that the layer is a Gear layer of this image. */
  async setImage(id: string, image: NonNullable<LayerRecord['image']>): Promise<Layer> {
    const layer = { ...this.get(id), image };
    await writeAtomically(join(layer.folder, RECORD), recordText(layer), { flush: false });
    this.#layers.set(id, layer);
    return layer;
  }

  /** Removes the layer's folder; nothing may be mounted in it any more. Safe to repeat. */
  async remove(id: string): Promise<void> {
    const layer = this.#layers.get(id);
    if (layer === undefined) return;
    const removing = join(this.home, temporaryName());
    await rename(layer.folder, removing);
    this.#layers.delete(id);
    await removeFolder(removing);
  }
}

function recordText({ version, id, parent, readWrite, image }: LayerRecord): string {
  const record: LayerRecord = { version, id, parent, readWrite, ...(image === undefined ? {} : { image }) };
  return `${JSON.stringify(record)}\n`;
}
