import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '#core/digest.ts';
import { orUndefined } from '#core/errors.ts';
import { ObjectTable } from '#core/index/object-table.ts';
import type { Access } from '#core/security/access.ts';
import type { ContainerdStatus } from '../containerd/report.ts';
import type { Image, ImageStore } from '../images/image-store.ts';
import type { NodeMountStatus } from '../nfs/node-mount.ts';
import type { ObjectFilesystemStats, PrefetchStats } from '../objectfs/interface.ts';
import type { NodePaths } from '../paths.ts';
import type { Snapshots } from '../snapshots/snapshots.ts';

/** `complete`: every object is on this node, so nothing needs the manager any more. `filling`: what is missing is being brought here. */
export type ImageState = 'lazy' | 'filling' | 'complete';

export interface ImageStatus {
  readonly image: Digest;
  /** Digest of the manifest of the image that was converted. */
  readonly source: string;
  readonly state: ImageState;
  readonly entries: number;
  readonly objects: number;
  readonly bytes: number;
  /** Of these, on this node. */
  readonly objectsHere: number;
  readonly bytesHere: number;
  /** What this image has touched: it lies in its private cache, where the kernel finds it without us. */
  readonly touchedObjects: number;
  readonly touchedBytes: number;
  /** First touches since the object filesystem started: found in the public cache, or fetched. */
  readonly fromPublic: number;
  readonly fromRemote: number;
  readonly fetchedBytes: number;
  readonly errors: number;
  /** What its start-up profile did for it; undefined while the image was not used since the object filesystem started. */
  readonly startUp: PrefetchStats | undefined;
  /** Layers that use the image, and those of them or above them that are mounted now. */
  readonly users: number;
  readonly mounts: number;
}

export interface NodeStatus {
  readonly version: string;
  readonly root: string;
  readonly manager: string;
  readonly managerAway: boolean;
  /** Why; '' where it is not. */
  readonly managerAwayReason: string;
  /** Files that let the driver in there. */
  readonly access: Access;
  readonly dataPath: string;
  /** The mount of the manager's export; undefined without --data-path nfs. */
  readonly nfs: NodeMountStatus | undefined;
  readonly homes: readonly {
    readonly home: string;
    readonly layers: number;
    readonly mounts: number;
    readonly ordinary: number;
  }[];
  /** Left out where containerd is not served. */
  readonly containerd?: ContainerdStatus;
  readonly images: readonly ImageStatus[];
  readonly objectFilesystem: ObjectFilesystemStats;
}

const PREFIXES = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** The objects below a folder of objects. */
async function objectsIn(folder: string): Promise<Set<string>> {
  const found = new Set<string>();
  for (const prefix of PREFIXES) {
    const names = (await orUndefined(readdir(join(folder, prefix)), 'ENOENT', 'ENOTDIR')) ?? [];
    for (const name of names) found.add(prefix + name);
  }
  return found;
}

/** How many mounted layers stand on each image. */
function mountsByImage(snapshots: readonly Snapshots[]): Map<Digest, number> {
  const counts = new Map<Digest, number>();
  for (const store of snapshots) {
    for (const layer of store.list()) {
      if (store.mountCount(layer) === 0) continue;
      for (const image of store.shownImages(layer.id)) counts.set(image, (counts.get(image) ?? 0) + 1);
    }
  }
  return counts;
}

async function imageStatus(
  image: Image,
  paths: NodePaths,
  inPublic: ReadonlySet<string>,
  stats: ObjectFilesystemStats,
): Promise<Omit<ImageStatus, 'users' | 'mounts'>> {
  const table = ObjectTable.open(join(image.folder, 'objects'));
  const touched = await objectsIn(join(paths.private, image.id));
  let objectsHere = 0;
  let bytesHere = 0;
  let touchedBytes = 0;
  for (let row = 0; row < table.count; row++) {
    const digest = table.digest(row);
    const isTouched = touched.has(digest);
    if (isTouched) touchedBytes += table.size(row);
    if (!isTouched && !inPublic.has(digest)) continue;
    objectsHere++;
    bytesHere += table.size(row);
  }
  const own = stats.images.find((candidate) => candidate.image === image.id);
  return {
    image: image.id,
    source: image.descriptor.source.digest,
    state: objectsHere === table.count ? 'complete' : stats.filling === image.id ? 'filling' : 'lazy',
    entries: image.summary.entries,
    objects: table.count,
    bytes: table.totalBytes,
    objectsHere,
    bytesHere,
    touchedObjects: touched.size,
    touchedBytes,
    fromPublic: own?.fromPublic ?? 0,
    fromRemote: own?.fromRemote ?? 0,
    fetchedBytes: own?.fetchedBytes ?? 0,
    errors: own?.errors ?? 0,
    startUp: own?.startUp,
  };
}

/** What new views read through. */
function dataPathOf({ passthrough }: ObjectFilesystemStats, nfs: NodeMountStatus | undefined): string {
  const fuse = passthrough ? 'fuse, passthrough' : 'fuse';
  if (nfs === undefined) return fuse;
  return nfs.state === 'trusted' ? `nfs ${nfs.version} from ${nfs.server}` : `${fuse}, as NFS is ${nfs.state}`;
}

/** Looks at everything that this node has. Reads folders and tables, never the object filesystem itself. */
export async function nodeStatus(options: {
  readonly version: string;
  readonly paths: NodePaths;
  readonly images: ImageStore;
  readonly snapshots: readonly Snapshots[];
  readonly containerd?: ContainerdStatus | undefined;
  readonly stats: ObjectFilesystemStats;
  readonly nfs?: NodeMountStatus | undefined;
}): Promise<NodeStatus> {
  const { paths, images, snapshots, stats } = options;
  const inPublic = await objectsIn(paths.public);
  const mounts = mountsByImage(snapshots);
  const found: ImageStatus[] = [];
  for (const image of images.list()) {
    // The objects of a layer belong to the union of the layers that are mounted together.
    if (image.kind === 'layer' || (image.kind === 'union' && image.summary.objects === 0)) continue;
    try {
      found.push({
        ...(await imageStatus(image, paths, inPublic, stats)),
        users: (await images.users(image.id)).length,
        mounts: mounts.get(image.id) ?? 0,
      });
    } catch (error) {
      // Removed while it was looked at.
      if (images.find(image.id) !== undefined) throw error;
    }
  }
  return {
    version: options.version,
    root: paths.root,
    manager: stats.settings.manager,
    managerAway: stats.managerAway,
    managerAwayReason: stats.managerAwayReason,
    access: stats.settings.access,
    dataPath: dataPathOf(stats, options.nfs),
    nfs: options.nfs,
    homes: snapshots.map((store) => ({
      home: store.home,
      layers: store.list().length,
      mounts: store.list().filter((layer) => store.mountCount(layer) > 0).length,
      ordinary: store.list().filter((layer) => store.imagesOf(layer.id).length === 0).length,
    })),
    ...(options.containerd === undefined ? {} : { containerd: options.containerd }),
    images: found,
    objectFilesystem: stats,
  };
}
