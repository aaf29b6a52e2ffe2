import { mkdir, realpath, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Abortable } from '#core/abort.ts';
import { temporaryName } from '#core/atomic-file.ts';
import type { Digest } from '#core/digest.ts';
import { GearError, isErrno } from '#core/errors.ts';
import { KeyedLock } from '#core/keyed-lock.ts';
import type { Logger } from '#core/log.ts';
import { applyLayer } from '../archive/apply.ts';
import type { ImageStore } from '../images/image-store.ts';
import { unionId } from '../images/layer-image.ts';
import { unmount } from '../kernel/mount.ts';
import { findMount } from '../kernel/mount-info.ts';
import { mountOverlay } from '../kernel/overlay.ts';
import { gearFilesOf } from './gear-layer.ts';
import { markApplying } from './interrupted.ts';
import type { Layer } from './layer.ts';
import { LayerStore, type StagedLayer } from './layer-store.ts';
import { MountCounts } from './mount-counts.ts';
import { type ChainLink, type MountPlan, planMount } from './plan.ts';

export interface StageOptions {
  readonly readWrite?: boolean;
  readonly image?: Digest;
}

export interface PlanOptions {
  readonly writable?: boolean;
  readonly data?: boolean;
}

/** A plan, and the layers that its lower directories show, in the same order. */
export type LayerPlan = MountPlan & { readonly layers: readonly string[] };

/** A folder that shows a layer until it is disposed. */
export interface Mounted extends AsyncDisposable {
  readonly path: string;
}

/**
 * The engine: layers of one home, ordinary and Gear layers, created, mounted, changed and removed. Every call is safe to repeat; calls for one
 * layer follow each other.
 */
export class Snapshots {
  readonly home: string;
  readonly #images: ImageStore;
  readonly #layers: LayerStore;
  readonly #log: Logger;
  readonly #locks = new KeyedLock<string>();
  readonly #counts = new MountCounts();

  private constructor(layers: LayerStore, images: ImageStore, log: Logger) {
    this.home = layers.home;
    this.#layers = layers;
    this.#images = images;
    this.#log = log;
  }

  /** Opens the layers in `home` (absolute; made where it is missing) and makes the images know their users again. */
  static async open({ home, images, log }: { home: string; images: ImageStore; log: Logger }): Promise<Snapshots> {
    await mkdir(home, { recursive: true, mode: 0o700 });
    // The mount table has no symlinks in its paths.
    const layers = await LayerStore.open(await realpath(home), log);
    for (const layer of layers.list()) {
      if (layer.image === undefined) continue;
      try {
        await images.addUser(layer.image, layer.folder);
      } catch (err) {
        log.error({ err, layer: layer.id, image: layer.image }, 'the image of a layer is not here; pull it again');
      }
    }
    return new Snapshots(layers, images, log.child({ part: 'snapshots' }));
  }

  list(): Layer[] {
    return this.#layers.list();
  }

  find(id: string): Layer | undefined {
    return this.#layers.find(id);
  }

  /** Throws not-found. */
  get(id: string): Layer {
    return this.#layers.get(id);
  }

  /** The images that the layer or one below it shows; none for an ordinary one. */
  imagesOf(id: string): Digest[] {
    return this.#layers.chain(id).flatMap(({ image }) => image ?? []);
  }

  /** The images whose contents a mount of the layer shows: as imagesOf, with lazy layers put together. */
  shownImages(id: string): Digest[] {
    const whole = this.imagesOf(id).filter((image) => this.#images.find(image)?.kind !== 'layer');
    return [...whole, this.unionOf(id)].filter((image) => image !== undefined);
  }

  /** Throws already-exists when `id` is there with another parent, not-found for the parent. */
  async create(id: string, parent: string, readWrite: boolean): Promise<Layer> {
    return await this.#locks.with(id, () => this.#layers.create(id, parent, readWrite));
  }

  /** Makes a layer that is there only when it is published. `image`: what it shows instead of files of its own; pinned by the caller until then. */
  async stage(id: string, parent: string, { readWrite = false, image }: StageOptions = {}): Promise<StagedLayer> {
    if (this.#layers.find(id) !== undefined) throw new GearError('already-exists', `layer ${id} exists already`);
    if (parent !== '') this.get(parent);
    return await this.#layers.stage({
      version: 1,
      id,
      parent,
      readWrite,
      ...(image === undefined ? {} : { image }),
    });
  }

  /** Unmounts and removes a layer, and its image when nothing else uses it. Nothing there is no error. */
  async remove(id: string): Promise<void> {
    await this.#locks.with(id, async () => {
      const layer = this.#layers.find(id);
      if (layer === undefined) return;
      await this.#unmount(layer);
      const used = [layer.image, this.unionOf(id)].filter((image) => image !== undefined);
      await this.#layers.remove(id);
      for (const image of used) await this.#images.removeUser(image, layer.folder);
    });
  }

  /** Mounts a layer to be written to, counted, and gives its root. `mountLabel`: SELinux context or ''. */
  async mount(id: string, mountLabel = ''): Promise<string> {
    return await this.#locks.with(id, async () => {
      const layer = this.#layers.get(id);
      const plan = planMount(await this.#links(id), { writable: true });
      if (plan.kind === 'folder') return plan.path;
      const count = this.#counts.get(layer.folder, findMount(layer.merged) !== undefined);
      if (count === 0) await this.#perform(plan, layer.merged, mountLabel);
      this.#counts.set(layer.folder, count + 1);
      return layer.merged;
    });
  }

  /** Takes back one mount(); the last one unmounts. Nothing mounted is no error. */
  async unmount(id: string): Promise<void> {
    await this.#locks.with(id, async () => {
      const layer = this.#layers.find(id);
      if (layer === undefined) return;
      const count = this.#counts.get(layer.folder, findMount(layer.merged) !== undefined);
      if (count <= 1) await this.#unmount(layer);
      else this.#counts.set(layer.folder, count - 1);
    });
  }

  /**
   * A folder that shows a layer as whoever stands on it sees it, not to be written to. What is in use as a writable layer is shown as it
   * is at this moment.
   */
  async view(id: string): Promise<Mounted> {
    const plan = planMount(await this.#links(id), { writable: false });
    if (plan.kind === 'folder') return { path: plan.path, [Symbol.asyncDispose]: async () => {} };
    const target = join(this.home, temporaryName());
    await mkdir(target, { mode: 0o700 });
    const release = async () => {
      if (findMount(target) !== undefined) await unmount(target, { detach: true });
      await rmdir(target);
    };
    try {
      await this.#perform(plan, target, '');
    } catch (error) {
      await rmdir(target);
      throw error;
    }
    return { path: target, [Symbol.asyncDispose]: release };
  }

  /**
   * Applies a layer's tar to a layer that was made for it. What turns out to be a Gear layer brings its image along. Gives the bytes of the
   * regular files that came.
   */
  async apply(id: string, tar: AsyncIterable<Uint8Array>, { signal }: Abortable = {}): Promise<number> {
    return await this.#locks.with(id, async () => {
      const layer = this.#layers.get(id);
      const applying = markApplying(layer);
      await using below = layer.parent === '' ? undefined : await this.view(layer.parent);
      const { size } = await applyLayer(tar, layer.diff, {
        format: 'overlay',
        lower: below?.path,
        signal,
        log: this.#log,
      });
      await this.#adoptGearLayer(layer);
      applying.done();
      return size;
    });
  }

  /** Looks at a layer that somebody else has filled: what turns out to be a Gear layer brings its image along. */
  async seal(id: string): Promise<void> {
    await this.#locks.with(id, async () => {
      const layer = this.#layers.get(id);
      if (layer.image === undefined) await this.#adoptGearLayer(layer);
    });
  }

  async #adoptGearLayer(layer: Layer): Promise<void> {
    const gear = await gearFilesOf(layer.diff);
    if (gear === undefined) return;
    const image = await this.#images.import(gear.descriptor, gear.indexFile, layer.folder);
    await this.#layers.setImage(layer.id, image.id);
  }

  /**
   * What a mount of the layer is made of, without making it: to be written to, or (`writable: false`) as whoever stands on it sees it. Without `data` the
   * contents of lazy files are not part of it.
   */
  async plan(id: string, { writable = true, data = true }: PlanOptions = {}): Promise<LayerPlan> {
    const links = await this.#links(id, { data });
    const plan = planMount(links, { writable });
    const lower = plan.kind === 'folder' ? 1 : plan.lower.length;
    return { ...plan, layers: links.slice(links.length - lower).map(({ layer }) => layer.id) };
  }

  /** The lazy layers that the layer stands on, with itself, from the top down. */
  #lazyLayers(id: string): { layer: Layer; image: Digest }[] {
    return this.#layers.chain(id).flatMap((layer) => {
      const { image } = layer;
      return image !== undefined && this.#images.find(image)?.kind === 'layer' ? [{ layer, image }] : [];
    });
  }

  /** The image that has the contents of the lazy layers which the layer stands on, with itself; undefined where there are none. It need not be made yet. */
  unionOf(id: string): Digest | undefined {
    const lazy = this.#lazyLayers(id);
    return lazy.length === 0 ? undefined : unionId([...new Set(lazy.map(({ image }) => image))]);
  }

  /** How many users the layer's mount has. */
  mountCount(layer: Layer): number {
    return this.#counts.get(layer.folder, findMount(layer.merged) !== undefined);
  }

  /** After a new start of the engine above: it takes mounts that are there for one use each. */
  forgetCounts(): void {
    for (const layer of this.#layers.list()) {
      if (findMount(layer.merged) !== undefined) this.#counts.set(layer.folder, 1);
    }
  }

  /** Unmounts every layer. */
  async unmountAll(): Promise<void> {
    for (const layer of this.#layers.list()) await this.#locks.with(layer.id, () => this.#unmount(layer));
  }

  async #links(id: string, { data = true }: { data?: boolean } = {}): Promise<[ChainLink, ...ChainLink[]]> {
    const [top, ...rest] = this.#layers.chain(id);
    const lazy = this.#lazyLayers(id);
    const [highest] = lazy;
    const layers = [...new Set(lazy.map(({ image }) => image))];
    const union = highest === undefined || !data ? [] : await this.#images.unionData(layers, highest.layer.folder);
    const link = async (layer: Layer): Promise<ChainLink> => {
      if (layer.image === undefined) return { layer, view: undefined };
      const view = await this.#images.view(layer.image);
      return { layer, view: layer === highest?.layer ? { ...view, data: union } : view };
    };
    const links: [ChainLink, ...ChainLink[]] = [await link(top)];
    const seen = new Set(top.image === undefined ? [] : [top.image]);
    for (const layer of rest) {
      // overlayfs refuses a folder that is there twice. All that a layer has or hides its higher occurrence has or hides too.
      if (layer.image !== undefined && seen.has(layer.image)) continue;
      if (layer.image !== undefined) seen.add(layer.image);
      links.push(await link(layer));
    }
    return links;
  }

  async #perform(plan: Extract<MountPlan, { kind: 'overlay' }>, target: string, mountLabel: string): Promise<void> {
    await mountOverlay(
      target,
      {
        lower: plan.lower,
        data: plan.data,
        ...(plan.upper ?? {}),
        // Files of the index and of the upper folder lie on different filesystems: one device, and numbers that survive a copy-up.
        xino: 'auto',
        label: mountLabel,
      },
      { source: 'gear' },
    );
    this.#log.debug({ target, lower: plan.lower.length, data: plan.data.length }, 'mounted');
  }

  async #unmount(layer: Layer): Promise<void> {
    // Also what an interrupted call mounted twice.
    while (findMount(layer.merged) !== undefined) {
      try {
        // Detached: a process that still has the folder open must not keep the container from being removed.
        await unmount(layer.merged, { detach: true });
      } catch (error) {
        if (!isErrno(error, 'EINVAL', 'ENOENT')) throw error;
      }
    }
    this.#counts.set(layer.folder, 0);
  }
}
