import { randomBytes } from 'node:crypto';
import { lchown, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { KeyedLock } from '#core/keyed-lock.ts';
import type { Logger } from '#core/log.ts';
import type { Mount } from '#proto/gen/containerd/types/mount.ts';
import type { ImageStore } from '../images/image-store.ts';
import { realTime } from '../kernel/clock.ts';
import { measure } from '../kernel/measure.ts';
import type { LayerPlan, Snapshots } from '../snapshots/snapshots.ts';
import type { Conversions } from './conversions.ts';
import { type Filter, parseFilters } from './filter.ts';
import type { KnownLayers } from './known-layers.ts';
import { checkLabels, type LayerRequest, layerRequest, TARGET, updatedLabels } from './labels.ts';
import type { ShortLinks } from './links.ts';
import type { Labels, NewSnapshot, Ordinary, Snapshot, SnapshotMetadata, Usage } from './metadata.ts';
import { clientMounts } from './mounts.ts';
import { lazyUsage } from './usage.ts';

export interface SnapshotterParts {
  readonly metadata: SnapshotMetadata;
  readonly snapshots: Snapshots;
  readonly images: ImageStore;
  readonly links: ShortLinks;
  readonly layers: KnownLayers;
  readonly conversions: Conversions;
  readonly log: Logger;
}

export interface NewSnapshotRequest {
  readonly key: string;
  readonly parent: string;
  readonly labels: Labels;
  readonly namespace: string;
}

/** Snapshots that a List answer holds at most. */
const PAGE = 100;

/**
 * containerd's snapshotter over the engine: a snapshot is a layer of the engine (its folder is named by the snapshot's id) and a row. A new one comes
 * to be in one moment, row and folder; of a removed one the row goes first, and a folder without a row is nobody's.
 */
export class Snapshotter {
  readonly #parts: SnapshotterParts;
  readonly #locks = new KeyedLock<number>();
  #lastId: number;

  private constructor(parts: SnapshotterParts) {
    this.#parts = parts;
    this.#lastId = parts.metadata.lastId();
  }

  /** Takes up what is there: folders without a row are removed, rows without a folder (after a power cut) too. */
  static async open(parts: SnapshotterParts): Promise<Snapshotter> {
    const { metadata, snapshots, log } = parts;
    const lost = [...metadata.all()].filter(({ id }) => snapshots.find(String(id)) === undefined);
    for (const snapshot of lost.toReversed()) {
      if (metadata.hasChildren(snapshot.id)) continue;
      log.error({ snapshot: snapshot.name, id: snapshot.id }, 'the files of a snapshot are gone; it is forgotten');
      metadata.transaction(() => metadata.remove(snapshot.id));
    }
    const snapshotter = new Snapshotter(parts);
    await snapshotter.#removeOrphans();
    return snapshotter;
  }

  /**
   * Makes an active snapshot. Throws already-exists for a key that is taken, and when the layer that the labels name needs no unpacking: it is then committed
   * under the name that they give.
   */
  async prepare(request: NewSnapshotRequest): Promise<Mount[]> {
    const layer = layerRequest(request.labels);
    if (layer === undefined) return await this.#create(request, 'active');
    this.#checkNew(request);
    const ordinary = await this.#commitLazy(request, layer);
    return await this.#create(request, 'active', ordinary);
  }

  /** Makes a view. Throws already-exists for a key that is taken. */
  async view(request: NewSnapshotRequest): Promise<Mount[]> {
    return await this.#create(request, 'view');
  }

  /** The mounts of an active snapshot or a view. Throws failed-precondition for a committed one. */
  async mounts(key: string): Promise<Mount[]> {
    const snapshot = this.#parts.metadata.get(key);
    if (snapshot.kind === 'committed') {
      throw new GearError('failed-precondition', `snapshot ${key} is committed, so it has no mounts of its own`);
    }
    return await this.#mountsOf(snapshot);
  }

  /** An active snapshot becomes a committed one; its labels are replaced. Throws already-exists, and failed-precondition for what is not active. */
  async commit(key: string, name: string, labels: Labels, parent: string): Promise<void> {
    const { metadata, snapshots } = this.#parts;
    checkName(name);
    checkLabels(labels);
    const { id } = this.#active(key);
    await this.#locks.with(id, async () => {
      const { id: still, labels: old, parent: below } = this.#active(key);
      if (still !== id) throw new GearError('not-found', `snapshot ${key} does not exist any more`);
      if (parent !== '' && parent !== below) {
        throw new GearError(
          'unsupported',
          `snapshot ${key} stands on ${below || 'nothing'}; it cannot be put on ${parent}`,
        );
      }
      if (metadata.find(name) !== undefined) throw new GearError('already-exists', `snapshot ${name} already exists`);
      await snapshots.seal(String(id));
      // What was unpacked from a tar for this name can hold orders to overlayfs that only the tar's maker can have given.
      const usage = await measure(snapshots.get(String(id)).diff, { dropOrders: old[TARGET] !== undefined });
      metadata.transaction(() => {
        if (metadata.byId(id)?.kind !== 'active')
          throw new GearError('not-found', `snapshot ${key} does not exist any more`);
        metadata.commit(id, name, { created: realTime(), labels, usage });
      });
    });
  }

  /** Throws failed-precondition while another stands on it. */
  async remove(key: string): Promise<void> {
    const { metadata, log } = this.#parts;
    const { id } = metadata.get(key);
    await this.#locks.with(id, async () => {
      metadata.transaction(() => {
        const snapshot = metadata.get(key);
        if (snapshot.id !== id) throw new GearError('not-found', `snapshot ${key} does not exist any more`);
        if (metadata.hasChildren(id)) {
          throw new GearError('failed-precondition', `cannot remove snapshot ${key}: another stands on it`);
        }
        metadata.remove(id);
      });
      await this.#removeFiles(id).catch((err: unknown) => {
        log.error({ err, snapshot: key, id }, 'files of a removed snapshot stay until the next cleanup');
      });
    });
  }

  stat(key: string): Snapshot {
    return this.#parts.metadata.get(key);
  }

  /** Changes labels; see updatedLabels. */
  update(name: string, labels: Labels, paths: readonly string[]): Snapshot {
    const { metadata } = this.#parts;
    return metadata.transaction(() => {
      const snapshot = metadata.get(name);
      const wanted = updatedLabels(snapshot.labels, labels, paths);
      checkLabels(wanted);
      metadata.setLabels(snapshot.id, wanted, realTime());
      return metadata.get(name);
    });
  }

  /** The snapshots that pass the filters, in pages, each behind its parent. Throws invalid-argument for what is no filter. */
  *list(filters: readonly string[]): Generator<Snapshot[]> {
    const filter: Filter = parseFilters(filters);
    for (let after = 0; ; ) {
      const page = this.#parts.metadata.page(after, PAGE);
      const passed = page.filter((snapshot) => filter((path) => fieldOf(snapshot, path)));
      if (passed.length > 0) yield passed;
      const last = page.at(-1);
      if (last === undefined) return;
      after = last.id;
    }
  }

  /** What the snapshot alone takes on this node's disk. */
  async usage(key: string): Promise<Usage> {
    const { metadata, snapshots, images } = this.#parts;
    const { id, usage } = metadata.get(key);
    const layer = snapshots.get(String(id));
    const own = usage ?? (await measure(layer.diff));
    const lazy = await lazyUsage(layer, snapshots, images);
    return { size: own.size + lazy.size, inodes: own.inodes + lazy.inodes };
  }

  /** Removes the folders that no snapshot has, and the images that nothing uses. */
  async cleanup(): Promise<void> {
    await this.#removeOrphans();
    await this.#parts.images.sweep();
  }

  async #removeOrphans(): Promise<void> {
    const { metadata, snapshots, log } = this.#parts;
    const orphans = snapshots.list().filter(({ id }) => metadata.byId(Number(id)) === undefined);
    // The latest first: those below go after those that stand on them.
    for (const { id } of orphans.toSorted((a, b) => Number(b.id) - Number(a.id))) {
      try {
        await this.#locks.with(Number(id), () => this.#removeFiles(Number(id)));
      } catch (err) {
        log.error({ err, id }, 'folder without a snapshot stays');
      }
    }
  }

  all(): Snapshot[] {
    return [...this.#parts.metadata.all()];
  }

  async #removeFiles(id: number): Promise<void> {
    await this.#parts.snapshots.remove(String(id));
    await this.#parts.links.remove(id);
  }

  /** Commits the layer without unpacking it, which already-exists tells; or gives why it has to be unpacked. */
  async #commitLazy(request: NewSnapshotRequest, layer: LayerRequest): Promise<Ordinary> {
    const { metadata, snapshots, images, layers, conversions, log } = this.#parts;
    const parentId = this.#parentId(request.parent);
    const again = this.#committedAs(layer.target, parentId);
    if (again !== undefined) throw new GearError('already-exists', `snapshot ${again} is there already`);
    const found = await layers.find(layer, async () =>
      parentId === undefined ? [] : await this.#lowerPaths(parentId),
    );
    if (found.kind === 'ordinary') {
      if (found.unknown && layer.image !== '') conversions.ask(layer.image);
      log.info({ layer: layer.layer, image: layer.image, reason: found.reason }, 'ordinary layer');
      return { image: layer.image, reason: found.reason };
    }
    using pinned = found.pinned;
    // Another namespace may have the same layer over a parent of its own.
    const name =
      metadata.find(layer.target) === undefined ? layer.target : `${layer.target}@${randomBytes(6).toString('hex')}`;
    const image = pinned.image.id;
    try {
      const { id } = await this.#publish({ ...request, key: name }, 'committed', { image });
      await images.addUser(image, snapshots.get(String(id)).folder);
      // The last layer of the image: what its containers need is made ready while the client goes on.
      if (layer.layers.length <= 1) this.#makeReady(id);
    } catch (error) {
      // Somebody else was faster with the same layer: so it is there.
      if (this.#committedAs(layer.target, parentId) === undefined) throw error;
    }
    throw new GearError('already-exists', `snapshot ${name} needs no unpacking`);
  }

  #makeReady(id: number): void {
    const { snapshots, log } = this.#parts;
    void snapshots.plan(String(id), { writable: false }).catch((err: unknown) => {
      log.info({ err, id }, 'layers not made ready; they are when a container starts');
    });
  }

  /** The name of a committed snapshot that is this layer on this parent. */
  #committedAs(target: string, parentId: number | undefined): string | undefined {
    for (const { kind, labels, parentId: below, name } of this.#candidates(target)) {
      if (kind === 'committed' && below === parentId && (name === target || labels[TARGET] === target)) return name;
    }
    return undefined;
  }

  *#candidates(target: string): Generator<Snapshot> {
    const { metadata } = this.#parts;
    const plain = metadata.find(target);
    if (plain !== undefined) yield plain;
    yield* metadata.named(`${target}@`);
  }

  async #create(request: NewSnapshotRequest, kind: 'active' | 'view', ordinary?: Ordinary): Promise<Mount[]> {
    this.#checkNew(request);
    const snapshot = await this.#publish(request, kind, { ordinary });
    try {
      return await this.#mountsOf(snapshot);
    } catch (error) {
      // The client is told that there is none.
      await this.remove(request.key).catch((err: unknown) => {
        this.#parts.log.error({ err, snapshot: request.key }, 'a snapshot without mounts stays');
      });
      throw error;
    }
  }

  #checkNew({ key, parent, labels }: NewSnapshotRequest): void {
    checkName(key);
    checkLabels(labels);
    this.#parentId(parent);
    if (this.#parts.metadata.find(key) !== undefined) {
      throw new GearError('already-exists', `snapshot ${key} already exists`);
    }
  }

  #parentId(parent: string): number | undefined {
    if (parent === '') return undefined;
    const { id, kind } = this.#parts.metadata.get(parent);
    if (kind !== 'committed') throw new GearError('invalid-argument', `parent ${parent} is not committed`);
    return id;
  }

  #active(key: string): Snapshot {
    const snapshot = this.#parts.metadata.get(key);
    if (snapshot.kind !== 'active') throw new GearError('failed-precondition', `snapshot ${key} is not active`);
    return snapshot;
  }

  /** Folder and row in one moment. */
  async #publish(
    { key, parent, labels, namespace }: NewSnapshotRequest,
    kind: Snapshot['kind'],
    { image, ordinary }: { image?: Digest; ordinary?: Ordinary | undefined },
  ): Promise<Snapshot> {
    const { metadata, snapshots } = this.#parts;
    const parentId = this.#parentId(parent);
    const id = ++this.#lastId;
    await using staged = await snapshots.stage(String(id), parentId === undefined ? '' : String(parentId), {
      readWrite: kind === 'active',
      ...(image === undefined ? {} : { image }),
    });
    if (kind === 'active' && parentId !== undefined) await this.#copyOwner(parentId, join(staged.staged, 'diff'));
    const row: NewSnapshot = {
      ...{ id, name: key, parentId, kind, namespace, labels },
      ...{ created: realTime(), usage: undefined, ordinary },
    };
    metadata.transaction(() => {
      if (this.#parentId(parent) !== parentId)
        throw new GearError('not-found', `parent ${parent} does not exist any more`);
      metadata.insert(row);
      staged.publish();
    });
    return metadata.get(key);
  }

  /** The root of the new layer belongs to whom the root below belongs, as with containerd's own overlayfs snapshotter. */
  async #copyOwner(parentId: number, diff: string): Promise<void> {
    const [below] = await this.#lowerPaths(parentId);
    if (below === undefined) return;
    const { uid, gid } = await stat(below);
    if (uid !== 0 || gid !== 0) await lchown(diff, uid, gid);
  }

  async #lowerPaths(id: number): Promise<readonly string[]> {
    const plan = await this.#parts.snapshots.plan(String(id), { writable: false, data: false });
    return plan.kind === 'folder' ? [plan.path] : plan.lower;
  }

  async #mountsOf(snapshot: Snapshot): Promise<Mount[]> {
    const { snapshots, links } = this.#parts;
    const { id, kind, parentId, labels } = snapshot;
    const readOnly = kind === 'view';
    const shown = readOnly && parentId !== undefined ? parentId : id;
    // Unpacking reads no file's contents, and containerd takes everything behind `lowerdir=` for parents.
    const data = labels[TARGET] === undefined;
    const plan = await snapshots.plan(String(shown), { writable: !readOnly, data });
    const lazy = snapshots.imagesOf(String(shown)).length > 0;
    return clientMounts(await this.#shorten(plan, links), { lazy, readOnly });
  }

  async #shorten(plan: LayerPlan, links: ShortLinks): Promise<LayerPlan> {
    if (plan.kind === 'folder' || plan.lower.length === 1) return plan;
    const lower = await Promise.all(plan.lower.map((path, index) => links.to(Number(plan.layers[index]), path)));
    return { ...plan, lower };
  }
}

function checkName(name: string): void {
  if (name === '' || name.includes('\0')) {
    throw new GearError('invalid-argument', `${JSON.stringify(name)} is no name of a snapshot`);
  }
}

/** containerd's names for what filters may ask (snapshots/storage's adaptSnapshot). */
function fieldOf({ name, kind, parent, labels }: Snapshot, path: readonly string[]): string | undefined {
  const [first, ...rest] = path;
  if (first === 'labels') return labels[rest.join('.')];
  if (rest.length > 0) return undefined;
  return first === 'name' ? name : first === 'kind' ? kind : first === 'parent' ? parent : undefined;
}
