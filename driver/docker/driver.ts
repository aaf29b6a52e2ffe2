import type { Readable } from 'node:stream';
import type { Abortable } from '#core/abort.ts';
import type { Change } from '../archive/change.ts';

/**
 * The interface of a graphdriver: what Docker's daemon/graphdriver package (20.10) and the plugin protocol ask of one.
 *
 * Words: a **layer** is a root filesystem named by an id, made from its parent; its **changes** are what distinguish it from its
 * parent; `get` gives a folder in which the whole filesystem of a layer is to be seen until as many `put`s have come. Ids are
 * validated (ids.ts) before a driver sees them. A parent of '' is no parent.
 */
export interface ProtoDriver {
  /** What Docker shows as "Storage Driver". */
  readonly name: string;

  /** Makes an image's layer on `parent`. A layer that exists already is already-exists; an unknown parent is not-found. */
  create(id: string, parent: string, options: CreateOptions): Promise<void>;
  /** Makes a container's layer on `parent`. */
  createReadWrite(id: string, parent: string, options: CreateOptions): Promise<void>;
  /** Removes a layer; succeeds where there is none. */
  remove(id: string, options?: Abortable): Promise<void>;
  /** Mounts a layer (counted) and gives the absolute path of its root. `mountLabel` is an SELinux label, or ''. */
  get(id: string, mountLabel: string, options?: Abortable): Promise<string>;
  /** Takes back one `get`; succeeds where nothing is mounted. */
  put(id: string, options?: Abortable): Promise<void>;
  /** Whether a layer of this id exists. */
  exists(id: string): Promise<boolean>;
  /** What `docker info` shows below the driver's name, in order. */
  status(): Promise<StatusLine[]>;
  /** What `docker inspect` shows as GraphDriver.Data; empty where there is nothing to tell. */
  getMetadata(id: string): Promise<Record<string, string>>;
  /** Unmounts what nobody uses; the daemon stops. Layers stay. */
  cleanup(): Promise<void>;
}

/** The half of a driver that moves changes. */
export interface DiffDriver {
  /** The changes of `id` against `parent` as an uncompressed layer tar. The layers are held from the first read until the stream ends or is destroyed. */
  diff(id: string, parent: string, options?: Abortable): Promise<Readable | AsyncIterable<Buffer>>;
  /** The changes of `id` against `parent`, sorted by path. */
  changes(id: string, parent: string, options?: Abortable): Promise<Change[]>;
  /** Applies an uncompressed layer tar to `id`, which was made from `parent`. Gives the bytes of the regular files that it brought. */
  applyDiff(id: string, parent: string, diff: AsyncIterable<Uint8Array>, options?: Abortable): Promise<number>;
  /** Bytes of the regular files that were added or modified. */
  diffSize(id: string, parent: string, options?: Abortable): Promise<number>;
}

/** A complete graphdriver. */
export interface Driver extends ProtoDriver, DiffDriver {
  /** Left out: nothing is promised. */
  readonly capabilities?: Capabilities;
}

export interface Capabilities {
  /** `diff` gives the bytes that `applyDiff` was given, so that Docker need not put the tar together itself. */
  readonly reproducesExactDiffs: boolean;
}

/** What a layer is created with. */
export interface CreateOptions extends Abortable {
  /** An SELinux label, or ''. */
  readonly mountLabel: string;
  /** `--storage-opt` of one container: { size: '10G' }. */
  readonly storageOpt: Readonly<Record<string, string>>;
}

export const NO_OPTIONS: CreateOptions = Object.freeze({ mountLabel: '', storageOpt: Object.freeze({}) });

export type StatusLine = readonly [name: string, value: string];

/** One range of a user namespace, as Docker writes it. */
export interface IdMap {
  readonly containerId: number;
  readonly hostId: number;
  readonly size: number;
}

/** What Init hands to a driver. */
export interface DriverOptions {
  /** The driver's own folder, absolute; the driver makes it. */
  readonly home: string;
  /** `--storage-opt` of the daemon, each "key=value". */
  readonly options: readonly string[];
  readonly uidMaps: readonly IdMap[];
  readonly gidMaps: readonly IdMap[];
}

export { CHANGE_ADDED, CHANGE_DELETED, CHANGE_MODIFIED, type Change, type ChangeKind } from '../archive/change.ts';
