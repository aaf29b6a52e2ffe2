import { mkdirSync } from 'node:fs';
import { copyFile, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, temporaryName } from '#core/atomic-file.ts';
import { type Digest, isDigest, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError, orUndefined } from '#core/errors.ts';
import { type Descriptor, parseDescriptor } from '#core/index/descriptor.ts';
import { KeyedLock } from '#core/keyed-lock.ts';
import type { Logger } from '#core/log.ts';
import { mountIndexImage } from '../kernel/erofs/mount-index.ts';
import type { Measure } from '../kernel/measure.ts';
import { removeFolder, unmount } from '../kernel/mount.ts';
import { findMount } from '../kernel/mount-info.ts';
import type { NodePaths } from '../paths.ts';
import { compileIndex, type ImageSummary, type IndexFormat } from './compile.ts';
import { type LayerSource, makeLayer, makeUnion, unionId } from './layer-image.ts';
import { Pins } from './pins.ts';
import { Slots } from './slots.ts';
import { ImageUsages } from './usage.ts';
import { ImageUsers } from './users.ts';

/**
 * What an image is. A `layer` is the compiled index of one layer, whose contents come from elsewhere: from the `union` of the layers that are mounted
 * together, which has objects only.
 */
export type ImageKind = 'image' | 'layer' | 'union';

/** An image on this node. Its id is the digest of its index; see layer-image.ts for layers and unions. */
export interface Image {
  readonly id: Digest;
  readonly kind: ImageKind;
  /** `images/<image>` */
  readonly folder: string;
  readonly descriptor: Descriptor;
  readonly summary: ImageSummary;
}

/** What a mount over an image is made of, all absolute paths. */
export interface ImageView {
  /** The compiled index, mounted: an ordinary lower layer. */
  readonly lower: string;
  /** Data-only lower layers, in the order in which an object is looked for. */
  readonly data: readonly string[];
}

/** Gives a folder that has all objects, for views to read past the object filesystem; undefined while none can be relied on. */
export type ObjectsFolder = () => Promise<string | undefined>;

export interface ImageStoreOptions {
  readonly paths: NodePaths;
  readonly format: IndexFormat;
  readonly objects?: ObjectsFolder | undefined;
  /**
   * Called when an image that has contents came to this node. Before that, called with the file of its object table as soon as that is certain to be right,
   * while the rest is being made.
   */
  readonly onImport?: ((id: Digest, early?: string) => void) | undefined;
  readonly log: Logger;
}

interface Facts {
  readonly version: 1;
  /** Left out: an image. */
  readonly kind?: ImageKind;
  readonly summary: ImageSummary;
}

/** What came to lie in the folder of an image that is being made. */
export interface MadeImage {
  readonly kind: ImageKind;
  readonly descriptor: Descriptor;
  readonly summary: ImageSummary;
  readonly warnings: readonly string[];
}

/** An image that stays, whether or not anything uses it, until this is disposed. */
export interface PinnedImage extends Disposable {
  readonly image: Image;
}

/**
 * The images of this node:
 *
 *     images/<image>/index             the encoded index, as it came
 *     images/<image>/descriptor.json   likewise
 *     images/<image>/objects           its objects, sorted; read by the object filesystem (of a layer: layer-objects, read by nobody but us)
 *     images/<image>/index.erofs       the index compiled for the kernel (index.d where it has no EROFS)
 *     images/<image>/facts.json        what the compiler counted; written last
 *     images/<image>/mnt               where index.erofs is mounted
 *     images/<image>/users/            the layers that use the image
 */
export class ImageStore {
  readonly #paths: NodePaths;
  readonly #format: IndexFormat;
  readonly #slots: Slots;
  readonly #objects: ObjectsFolder | undefined;
  readonly #onImport: ImageStoreOptions['onImport'];
  readonly #log: Logger;
  readonly #locks = new KeyedLock<Digest>();
  readonly #images = new Map<Digest, Image>();
  readonly #pins = new Pins<Digest>();
  readonly #usages: ImageUsages;

  private constructor({ paths, format, objects, onImport, log }: ImageStoreOptions, slots: Slots) {
    this.#paths = paths;
    this.#format = format;
    this.#slots = slots;
    this.#objects = objects;
    this.#onImport = onImport;
    this.#log = log.child({ part: 'images' });
    this.#usages = new ImageUsages(paths);
  }

  /** Opens the images below `paths.images` and removes what an earlier process left half-made. */
  static async open(options: ImageStoreOptions): Promise<ImageStore> {
    const { paths } = options;
    await mkdir(paths.images, { recursive: true, mode: 0o700 });
    await mkdir(paths.private, { recursive: true, mode: 0o700 });
    const store = new ImageStore(options, await Slots.open(paths.images));
    for (const name of await readdir(paths.images)) {
      if (name.startsWith('.tmp-')) await removeFolder(join(paths.images, name));
      else if (isDigest(name)) await store.#load(name);
    }
    for (const name of await readdir(paths.private)) {
      if (isDigest(name) && store.find(name) === undefined) await rm(join(paths.private, name), { recursive: true });
    }
    return store;
  }

  /** The images that are here. */
  list(): Image[] {
    return [...this.#images.values()];
  }

  find(id: Digest): Image | undefined {
    return this.#images.get(id);
  }

  /** Throws not-found. */
  get(id: Digest): Image {
    const image = this.#images.get(id);
    if (image === undefined) throw new GearError('not-found', `image ${ociDigest(id)} is not on this node`);
    return image;
  }

  /**
   * Takes an image in for the layer in `user`: its descriptor (JSON) and the file that holds its encoded index. An image that is here already only gets
   * the user. Throws corrupt or invalid-argument where the two are not what they should be; then nothing stays.
   */
  async import(descriptorBytes: Uint8Array, indexFile: string, user: string): Promise<Image> {
    const descriptor = parseDescriptor(descriptorBytes);
    const id = parseDigest(descriptor.index.digest);
    using _lock = await this.#locks.acquire(id);
    const known = this.#images.get(id);
    if (known !== undefined) {
      await new ImageUsers(known.folder).add(user);
      return known;
    }
    return await this.#build(id, user, async (folder, slot) => {
      await copyIndex(descriptor, indexFile, folder);
      await writeFile(join(folder, 'descriptor.json'), descriptorBytes);
      const request = { folder, image: id, slot, format: this.#format };
      const made = await compileIndex(request, () => this.#expect(id, join(folder, 'objects')));
      if (made.kind !== 'image') {
        throw new GearError('invalid-argument', `the index ${ociDigest(id)} is the index of a layer, not of an image`);
      }
      return { ...made, descriptor };
    });
  }

  /** Takes the index of one layer in, which is then to be used or let go. Throws corrupt where it is not what `source` says; then nothing stays. */
  async importLayer(source: LayerSource): Promise<PinnedImage> {
    const { id } = source;
    const pin = this.#pins.add(id);
    try {
      using _lock = await this.#locks.acquire(id);
      const image =
        this.#images.get(id) ??
        (await this.#build(id, undefined, (folder, slot) => makeLayer(source, { folder, slot, format: this.#format })));
      return { image, [Symbol.dispose]: () => pin[Symbol.dispose]() };
    } catch (error) {
      pin[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * The data-only lower layers for these layers' indexes when they are mounted together; none where they have no contents. The objects of all of them are
   * one image to the object filesystem, so a file is looked for in two places however many layers there are.
   */
  async unionData(layers: readonly Digest[], user: string): Promise<string[]> {
    const id = unionId(layers);
    using _lock = await this.#locks.acquire(id);
    const known = this.#images.get(id);
    if (known !== undefined) await new ImageUsers(known.folder).add(user);
    const folders = layers.map((layer) => this.get(layer).folder);
    const image =
      known ?? (await this.#build(id, user, (folder, slot) => makeUnion(layers, folders, { folder, slot })));
    return image.summary.objects === 0 ? [] : await this.#data(id);
  }

  /** What to mount for the image; mounts its index where that is not mounted yet. */
  async view(id: Digest): Promise<ImageView> {
    const image = this.get(id);
    const data = image.kind === 'image' ? await this.#data(id) : [];
    const plain = join(image.folder, 'index.d');
    if ((await orUndefined(stat(plain), 'ENOENT')) !== undefined) return { lower: plain, data };
    const compiled = join(image.folder, 'index.erofs');
    if ((await orUndefined(stat(compiled), 'ENOENT')) === undefined) {
      return { lower: join(this.#paths.trees, id), data: [] };
    }
    const lower = join(image.folder, 'mnt');
    using _lock = await this.#locks.acquire(id);
    // Not where it was removed while we waited: the folder would come back.
    this.get(id);
    if (findMount(lower) === undefined) {
      await mkdir(lower, { recursive: true });
      await mountIndexImage(compiled, lower);
    }
    return { lower, data };
  }

  /** What the image takes on this node's disk: its folder, and what it has touched. At most some seconds old. */
  async usage(id: Digest): Promise<Measure> {
    return await this.#usages.get(this.get(id));
  }

  /** The layers that use the image. */
  async users(id: Digest): Promise<string[]> {
    // Beside one that is being added, its file would be found empty, and dropped.
    using _lock = await this.#locks.acquire(id);
    return await new ImageUsers(this.get(id).folder).list();
  }

  /** Says that the layer in `user` uses the image. Safe to repeat. */
  async addUser(id: Digest, user: string): Promise<void> {
    using _lock = await this.#locks.acquire(id);
    await new ImageUsers(this.get(id).folder).add(user);
  }

  /** Takes a user back, and removes the image (never objects in `public/`) when that was the last one. Safe to repeat. */
  async removeUser(id: Digest, user: string): Promise<void> {
    using _lock = await this.#locks.acquire(id);
    const image = this.#images.get(id);
    if (image === undefined) return;
    const users = new ImageUsers(image.folder);
    await users.remove(user);
    await this.#removeUnused(image);
  }

  /** Removes the images that no layer uses: a crash may have left some, or something that was brought here ahead of its use. */
  async sweep(): Promise<void> {
    for (const { id } of this.list()) {
      using _lock = await this.#locks.acquire(id);
      // Somebody else may have removed it meanwhile.
      const image = this.#images.get(id);
      if (image !== undefined) await this.#removeUnused(image);
    }
  }

  /** Unmounts every index; for an explicit stop, when no container is left. */
  async unmountAll(): Promise<void> {
    for (const { folder } of this.list()) {
      const mount = join(folder, 'mnt');
      if (findMount(mount) !== undefined) await unmount(mount, { detach: true });
    }
  }

  /** Where an image's objects are looked for, in order. */
  async #data(id: Digest): Promise<string[]> {
    const objects = await this.#objects?.();
    const rest = objects === undefined ? [join(this.#paths.remote, id)] : [this.#paths.public, objects];
    return [join(this.#paths.private, id), ...rest];
  }

  async #load(id: Digest): Promise<void> {
    const folder = join(this.#paths.images, id);
    const text = await orUndefined(readFile(join(folder, 'facts.json'), 'utf8'), 'ENOENT');
    if (text === undefined) {
      this.#log.warn({ image: id }, 'image without facts.json removed');
      await removeFolder(folder);
      return;
    }
    const facts = JSON.parse(text) as Facts;
    const descriptor = parseDescriptor(await readFile(join(folder, 'descriptor.json')));
    this.#images.set(id, { id, kind: facts.kind ?? 'image', folder, descriptor, summary: facts.summary });
  }

  /** What is known to be needed may come while the image is being made. */
  #expect(id: Digest, table: string): void {
    if (this.#onImport === undefined) return;
    mkdirSync(join(this.#paths.private, id), { recursive: true, mode: 0o700 });
    this.#onImport(id, table);
  }

  /** Makes an image's folder whole, and only then gives it its name. Called with the image's lock held. */
  async #build(
    id: Digest,
    user: string | undefined,
    make: (folder: string, slot: number) => Promise<MadeImage>,
  ): Promise<Image> {
    const temporary = join(this.#paths.images, temporaryName());
    const folder = join(this.#paths.images, id);
    await using undo = new AsyncDisposableStack();
    undo.defer(() => removeFolder(temporary));
    undo.defer(() => rm(join(this.#paths.private, id), { recursive: true, force: true, maxRetries: 5 }));
    await mkdir(temporary, { mode: 0o700 });
    const { kind, descriptor, summary, warnings } = await make(temporary, await this.#slots.next());
    for (const warning of warnings) this.#log.warn({ image: id, warning }, 'image is not shown whole');
    if (user !== undefined) await new ImageUsers(temporary).add(user);
    const facts: Facts = { version: 1, ...(kind === 'image' ? {} : { kind }), summary };
    await writeFile(join(temporary, 'facts.json'), JSON.stringify(facts));
    // The container engine believes from now on that it has the image, so a power cut must not take it back.
    // All at once: one commit of the filesystem's journal then serves for several.
    await Promise.all((await readdir(temporary)).map((name) => flush(join(temporary, name))));
    if (kind !== 'layer') await mkdir(join(this.#paths.private, id), { recursive: true, mode: 0o700 });
    await rename(temporary, folder);
    await syncFolder(this.#paths.images);
    undo.move();
    const image: Image = { id, kind, folder, descriptor, summary };
    this.#images.set(id, image);
    if (kind !== 'layer') this.#onImport?.(id);
    this.#log.info({ image: id, kind, entries: summary.entries, objects: summary.objects }, 'image imported');
    return image;
  }

  // Called with the image's lock held.
  async #removeUnused(image: Image): Promise<void> {
    if (this.#pins.has(image.id)) return;
    if ((await new ImageUsers(image.folder).list()).length > 0 || this.#pins.has(image.id)) return;
    await this.#remove(image);
  }

  // Called with the image's lock held.
  async #remove(image: Image): Promise<void> {
    const mount = join(image.folder, 'mnt');
    if (findMount(mount) !== undefined) await unmount(mount, { detach: true });
    this.#images.delete(image.id);
    const removing = join(this.#paths.images, temporaryName());
    await rename(image.folder, removing);
    await removeFolder(removing);
    await rm(join(this.#paths.private, image.id), { recursive: true, force: true });
    this.#log.info({ image: image.id }, 'image removed');
  }
}

async function copyIndex(descriptor: Descriptor, indexFile: string, folder: string): Promise<void> {
  const { size } = await stat(indexFile);
  if (size !== descriptor.index.size) {
    throw new GearError(
      'corrupt',
      `the index of image ${ociDigest(descriptor.index.digest)} has ${size} bytes, its descriptor says ${descriptor.index.size}`,
    );
  }
  await copyFile(indexFile, join(folder, 'index'));
}

async function flush(path: string): Promise<void> {
  await using handle = await open(path, 'r');
  await handle.sync();
}
