import type { Abortable } from '#core/abort.ts';
import type { Logger } from '#core/log.ts';
import type { ImageStore } from '../../images/image-store.ts';
import { compareLayers, diffLayers, sizeOfDiff } from '../../snapshots/compare.ts';
import { Snapshots } from '../../snapshots/snapshots.ts';
import { backingFilesystem } from '../backing-filesystem.ts';
import type { Change, CreateOptions, Driver, DriverOptions, StatusLine } from '../driver.ts';
import { DriverError, unknownLayer } from '../errors.ts';

/** What the gear driver stands on. */
export interface GearDriverContext {
  readonly images: ImageStore;
  /** More lines for `docker info`. */
  readonly statusLines: () => StatusLine[];
  readonly log: Logger;
}

/** The graphdriver `gear`: Gear layers lazily, ordinary layers as overlay2 has them. It only translates to the engine. */
export class GearDriver implements Driver {
  readonly name = 'gear';
  // Docker puts an image layer's tar together from what it kept of it and from the files that get() shows.
  readonly capabilities = { reproducesExactDiffs: false } as const;
  readonly snapshots: Snapshots;
  readonly #context: GearDriverContext;
  readonly #filesystem: string;

  private constructor(snapshots: Snapshots, filesystem: string, context: GearDriverContext) {
    this.snapshots = snapshots;
    this.#filesystem = filesystem;
    this.#context = context;
  }

  /** Init. Throws invalid-option by name for what it does not take, incompatible-filesystem for a home that overlayfs cannot write to. */
  static async open(options: DriverOptions, context: GearDriverContext): Promise<GearDriver> {
    const [option] = options.options;
    if (option !== undefined) {
      throw new DriverError(
        'invalid-option',
        `storage option ${JSON.stringify(option)} is unknown to the gear driver, which takes none`,
      );
    }
    if (options.uidMaps.length > 0 || options.gidMaps.length > 0) {
      throw new DriverError(
        'invalid-option',
        'the gear driver does not support user namespaces (id maps, --userns-remap)',
      );
    }
    const snapshots = await Snapshots.open({ home: options.home, images: context.images, log: context.log });
    const filesystem = await backingFilesystem(snapshots.home);
    if (!filesystem.overlayUpper) {
      throw new DriverError(
        'incompatible-filesystem',
        `${snapshots.home} lies on ${filesystem.name}, which cannot be written to through overlayfs; use ext4 or xfs`,
      );
    }
    return new GearDriver(snapshots, filesystem.name, context);
  }

  async create(id: string, parent: string, options: CreateOptions): Promise<void> {
    await this.#create(id, parent, options, false);
  }

  async createReadWrite(id: string, parent: string, options: CreateOptions): Promise<void> {
    await this.#create(id, parent, options, true);
  }

  async #create(id: string, parent: string, { storageOpt }: CreateOptions, readWrite: boolean): Promise<void> {
    const [option] = Object.keys(storageOpt);
    if (option !== undefined) {
      throw new DriverError(
        'invalid-option',
        `--storage-opt ${option} is not supported by the gear driver (layer ${id})`,
      );
    }
    await this.snapshots.create(id, parent, readWrite);
  }

  async remove(id: string): Promise<void> {
    await this.snapshots.remove(id);
  }

  async get(id: string, mountLabel: string): Promise<string> {
    this.#check(id);
    return await this.snapshots.mount(id, mountLabel);
  }

  async put(id: string): Promise<void> {
    await this.snapshots.unmount(id);
  }

  async exists(id: string): Promise<boolean> {
    return this.snapshots.find(id) !== undefined;
  }

  async status(): Promise<StatusLine[]> {
    return [['Backing Filesystem', this.#filesystem], ['Supports d_type', 'true'], ...this.#context.statusLines()];
  }

  async getMetadata(id: string): Promise<Record<string, string>> {
    this.#check(id);
    const layer = this.snapshots.get(id);
    const plan = await this.snapshots.plan(id);
    const lower = plan.kind === 'folder' ? '' : [plan.lower.join(':'), ...plan.data].join('::');
    return {
      ...(lower === '' ? {} : { LowerDir: lower }),
      UpperDir: layer.diff,
      WorkDir: layer.work,
      MergedDir: plan.kind === 'folder' ? layer.diff : layer.merged,
      ...(layer.image === undefined ? {} : { GearImage: layer.image }),
    };
  }

  async cleanup(): Promise<void> {
    await this.snapshots.unmountAll();
  }

  async diff(id: string, parent: string, { signal }: Abortable = {}): Promise<AsyncIterable<Buffer>> {
    this.#check(id, parent);
    return diffLayers(this.snapshots, id, parent, { signal, log: this.#context.log });
  }

  async changes(id: string, parent: string, options: Abortable = {}): Promise<Change[]> {
    this.#check(id, parent);
    return await compareLayers(this.snapshots, id, parent, options);
  }

  async applyDiff(
    id: string,
    parent: string,
    diff: AsyncIterable<Uint8Array>,
    options: Abortable = {},
  ): Promise<number> {
    this.#check(id, parent);
    return await this.snapshots.apply(id, diff, options);
  }

  async diffSize(id: string, parent: string, options: Abortable = {}): Promise<number> {
    this.#check(id, parent);
    return await sizeOfDiff(this.snapshots, id, parent, options);
  }

  #check(id: string, parent = ''): void {
    if (this.snapshots.find(id) === undefined) throw unknownLayer(id);
    if (parent !== '' && this.snapshots.find(parent) === undefined) throw unknownLayer(parent);
  }
}
