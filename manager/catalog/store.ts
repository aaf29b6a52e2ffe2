import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Abortable } from '#core/abort.ts';
import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { KeyedLock } from '#core/keyed-lock.ts';
import type { Logger } from '#core/log.ts';
import type { Platform } from '#core/platform.ts';
import { choosePlatform, formatPlatform, hostPlatform } from '../registry/platform.ts';
import { diskError } from '../store/disk-error.ts';
import { FilesystemObjectStore, type Usage } from '../store/filesystem.ts';
import { openFlusher } from '../store/flush.ts';
import { collectGarbage, type Freed } from '../store/gc.ts';
import { ImageStore } from '../store/image-store.ts';
import { IndexStore } from '../store/index-store.ts';
import { Layout } from '../store/layout.ts';
import { type Lease, Leases } from '../store/leases.ts';
import { lockRoot } from '../store/lock.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { ImageRecord, LayerRecord } from '../store/record.ts';
import { Catalog, type CataloguedImage, type PagePosition } from './catalog.ts';
import { readWanted } from './names.ts';
import { factsOf, reconcile } from './reconcile.ts';
import { type Verified, verifyContents } from './verify.ts';
import type { WatchedTags } from './watched-tags.ts';

export interface StoreOptions {
  readonly root: string;
  readonly log: Logger;
  /** Milliseconds; see ../store/leases.ts. Default: an hour. */
  readonly grace?: number | undefined;
  /** Makes the catalogue again from the files. */
  readonly rebuild?: boolean | undefined;
}

const CHECKS_PER_TURN = 2000;

/** Opens the store in a folder, which is made where it is missing. Throws failed-precondition when another process has it open. */
export async function openStore({ root, log, grace = 3_600_000, rebuild = false }: StoreOptions): Promise<Store> {
  const layout = new Layout(root);
  await using stack = new AsyncDisposableStack();
  layout.makeRoot();
  stack.use(await lockRoot(layout));
  const { timeStep } = layout.prepare();
  const flusher = stack.use(openFlusher(root));
  const leases = new Leases(grace, timeStep);
  const catalog = stack.use(Catalog.open(layout.catalog, rebuild));
  const parts = {
    layout,
    leases,
    catalog,
    objects: new FilesystemObjectStore(layout, leases, flusher),
    indexes: new IndexStore(layout, flusher),
    images: new ImageStore(layout),
    log,
  };
  const { unreadable, ...there } = await reconcile(parts, log);
  log.info({ root, ...there }, rebuild ? 'catalogue rebuilt' : 'store open');
  return new Store(parts, unreadable.length > 0, stack.move());
}

interface StoreParts {
  readonly layout: Layout;
  readonly leases: Leases;
  readonly catalog: Catalog;
  readonly objects: FilesystemObjectStore;
  readonly indexes: IndexStore;
  readonly images: ImageStore;
  readonly log: Logger;
}

/** All that a manager keeps: objects, indexes, and records of images. The files are the truth; the catalogue answers questions about them. */
export class Store implements AsyncDisposable {
  readonly #parts: StoreParts;
  readonly #resources: AsyncDisposableStack;
  readonly #turns = new KeyedLock<'collect' | 'records'>();
  /** The catalogue lacks something that the store has, so nobody knows which objects that needs. */
  #mustNotCollect: boolean;

  constructor(parts: StoreParts, mustNotCollect: boolean, resources: AsyncDisposableStack) {
    this.#parts = parts;
    this.#mustNotCollect = mustNotCollect;
    this.#resources = resources;
  }

  get layout(): Layout {
    return this.#parts.layout;
  }

  get objects(): ObjectStore {
    return this.#parts.objects;
  }

  get indexes(): Pick<IndexStore, 'read' | 'pieces'> {
    return this.#parts.indexes;
  }

  /** What the monitor knows of registries' tags. */
  get watchedTags(): WatchedTags {
    return this.#parts.catalog.watchedTags;
  }

  /** Begins a use of the store, during which nothing that it adds or finds is collected. */
  openLease(): Lease {
    return this.#parts.leases.open();
  }

  /**
   * Stores an encoded index. Throws what decodeIndex throws for what is none, failed-precondition naming an object that is not there, and
   * resource-exhausted. With `claim` it is kept for the grace period even if no image needs it yet. Gives its digest.
   */
  async putIndex(bytes: Uint8Array, { signal, claim = false }: { claim?: boolean } & Abortable = {}): Promise<Digest> {
    const { leases, catalog, indexes, objects } = this.#parts;
    const digest = digestOf(bytes);
    const facts = factsOf(digest, bytes);
    using lease = leases.open();
    let checked = 0;
    for (const [object, { size }] of facts.objects) {
      if (++checked % CHECKS_PER_TURN === 0) await nextTurn(undefined, signal === undefined ? {} : { signal });
      const found = objects.find(object, lease.since);
      if (found !== size) throw lacking(digest, object, size, found);
    }
    signal?.throwIfAborted();
    const since = claim ? leases.claim() : lease.since;
    if (indexes.find(digest, since) === bytes.length && catalog.hasIndex(digest)) return digest;
    await indexes.put(digest, bytes);
    if (claim) leases.claim();
    this.#record(() => catalog.putIndex(facts));
    return digest;
  }

  /** Registers an image, over an older record of the same. Throws failed-precondition naming an index that is not there. */
  async putImage(record: ImageRecord): Promise<ImageRecord> {
    const { leases, catalog, indexes, images } = this.#parts;
    using lease = leases.open();
    for (const index of [record.indexDigest, ...record.layers.map((layer) => layer.indexDigest)]) {
      if (indexes.find(index, lease.since) === undefined || !catalog.hasIndex(index)) {
        throw new GearError('failed-precondition', `index ${ociDigest(index)} is not in the store; put it first`);
      }
    }
    using _turn = await this.#turns.acquire('records');
    const id = await images.put(record);
    this.#record(() => catalog.putImage(id, record));
    return record;
  }

  /** The image that a reference or digest means: for `platform`, or else for this machine's, or else the one converted last. Throws not-found. */
  resolve(reference: string, platform?: Platform): ImageRecord {
    const found = this.#parts.catalog.find(readWanted(reference)).map(({ record }) => record);
    const chosen = choosePlatform(found, platform ?? hostPlatform()) ?? (platform === undefined ? found[0] : undefined);
    if (chosen !== undefined) return chosen;
    const others = [...new Set(found.map((record) => formatPlatform(record.platform)))].join(', ');
    throw new GearError(
      'not-found',
      platform !== undefined && others !== ''
        ? `${reference}: converted for ${others}, not for ${formatPlatform(platform)}`
        : `${reference}: no such image here; "gear convert" converts one, "gear images" lists what there is`,
    );
  }

  /** A layer by its blob's digest or its diff id. Its index is kept for whoever asked, as if it had been added. Throws not-found. */
  resolveLayer(digest: Digest): LayerRecord {
    const { catalog, indexes, leases } = this.#parts;
    const layer = catalog.findLayer(digest);
    if (layer === undefined || indexes.find(layer.indexDigest, leases.claim()) === undefined) {
      throw new GearError('not-found', `layer ${ociDigest(digest)}: it is in none of the images here`);
    }
    return layer;
  }

  /** Marks an index as used; gives whether it is there. */
  useIndex(digest: Digest, lease: Lease): boolean {
    return this.#parts.indexes.find(digest, lease.since) !== undefined;
  }

  list(after: PagePosition | undefined, count: number): { readonly id: string; readonly record: ImageRecord }[] {
    return this.#parts.catalog.page(after, count);
  }

  /** Every image that a reference or digest means, the one converted last first. Throws invalid-argument. */
  findImages(reference: string): CataloguedImage[] {
    return this.#parts.catalog.find(readWanted(reference));
  }

  /** Forgets all images that a reference or digest means, and frees what only they used. Throws not-found. */
  async deleteImages(reference: string, options: Abortable = {}): Promise<Freed> {
    const freed = await this.forgetImages(() => this.findImages(reference).map(({ id }) => id), options);
    if (freed === undefined) throw new GearError('not-found', `${reference}: no such image here`);
    return freed;
  }

  /** Forgets the images that `choose` gives the ids of, and frees what only they used. Undefined when it gives none. */
  async forgetImages(choose: () => readonly string[], { signal }: Abortable = {}): Promise<Freed | undefined> {
    const { catalog, images, log } = this.#parts;
    const ids = await this.#turns.with('records', async () => {
      const found = choose();
      await images.remove(found);
      catalog.removeImages(found);
      return found;
    });
    if (ids.length === 0) return undefined;
    log.info({ images: ids }, 'images deleted');
    return await this.collect({ everything: false, signal });
  }

  /** Removes what nobody needs: with `everything` also objects that no index ever named. One at a time. See ../store/gc.ts. */
  async collect(options: { readonly everything: boolean } & Abortable): Promise<Freed> {
    const { log } = this.#parts;
    if (this.#mustNotCollect) {
      log.warn(
        'nothing is collected, because the catalogue lacks something; start again, or see "gear manager --verify"',
      );
      return { indexes: 0, objects: 0, bytes: 0 };
    }
    using _turn = await this.#turns.acquire('collect', options);
    const freed = await collectGarbage(this.#parts, options);
    log.info({ ...freed, everything: options.everything }, 'collected what nobody needs');
    return freed;
  }

  /** Compares everything with its digest; removes what is damaged. */
  async verify(options: Abortable = {}): Promise<Verified> {
    return await verifyContents(this.#parts, options);
  }

  /** Objects in the store, and their bytes; right once `count` has been through. */
  get usage(): Usage {
    return this.#parts.objects.usage;
  }

  /** Counts what is there; from then on `usage` follows what happens. */
  async count(options: Abortable = {}): Promise<void> {
    await this.#parts.objects.count(options);
  }

  /** Writes into the catalogue what the files say already. */
  #record(write: () => void): void {
    try {
      write();
    } catch (error) {
      // The next start makes up for it.
      this.#mustNotCollect = true;
      throw diskError(error, this.#parts.layout.catalog);
    }
  }

  totals(): { images: number; indexes: number } {
    return this.#parts.catalog.totals();
  }

  /** What the regular files of all images have together, each image counted by itself. Reads every record. */
  fileBytes(): number {
    return this.#parts.catalog.fileBytes();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

function lacking(index: Digest, object: Digest, size: number, found: number | undefined): GearError {
  const why =
    found === undefined ? `it is not in the store` : `in the store it has ${found} bytes, in the index ${size}`;
  return new GearError('failed-precondition', `index ${ociDigest(index)} names object ${ociDigest(object)}: ${why}`, {
    fields: { index, object },
  });
}
