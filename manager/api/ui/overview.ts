import { VERSION } from '#core/version.ts';
import { NodeImage_State, type NodeReads } from '#proto/gen/gear/v1/monitor.ts';
import type { Store } from '../../catalog/store.ts';
import type { ConvertProgress } from '../../converter/request.ts';
import type { Nodes } from '../../monitor/nodes.ts';
import type { QueuedTag } from '../../monitor/queue.ts';
import type { Conversions, RunningConversion } from '../conversions.ts';
import { listImages } from '../image-list.ts';
import { hostOf, type TransferState, type Transfers } from '../transfers.ts';

const IMAGES_PER_PAGE = 50;
const MAX_PENDING = 50;
const MAX_NODES = 200;
const MAX_TRANSFERS = 30;
/** Milliseconds for which the sum over all images is good. */
const SUM_LIFETIME = 10_000;

/** What the page is made from. */
export interface OverviewParts {
  readonly store: Store;
  readonly conversions: Pick<Conversions, 'list'>;
  readonly nodes: Pick<Nodes, 'list' | 'at'>;
  readonly transfers: Pick<Transfers, 'list'>;
  /** What the monitor knows of registries' tags. */
  readonly tags: () => readonly QueuedTag[];
}

export interface ReadyImage {
  readonly source: string;
  readonly destination: string;
  readonly fileBytes: number;
  readonly objectBytes: number;
  readonly objects: number;
  readonly convertedAt: number;
  readonly warnings: readonly string[];
  /** On how many of the nodes it is, and on how many of these complete. */
  readonly nodes: number;
  readonly complete: number;
}

export interface PendingImage {
  readonly source: string;
  readonly state: 'waiting' | 'converting' | 'failed';
  readonly error: string;
  readonly attempts: number;
  readonly retryAt: number | undefined;
  readonly changedAt: number;
  readonly progress: ConvertProgress | undefined;
}

export interface NodeView {
  readonly name: string;
  readonly version: string;
  readonly seenAt: number;
  readonly images: number;
  readonly complete: number;
  readonly imageBytes: number;
  readonly imageBytesHere: number;
  readonly cacheBytes: number;
  /** Undefined: the node does not say. */
  readonly reads: { readonly [K in keyof NodeReads]: number } | undefined;
}

export interface TransferView extends TransferState {
  /** The only node that is at that address. */
  readonly node: string | undefined;
  /** The name of the image that it is for, where that is known. */
  readonly imageName: string | undefined;
}

/** Some of a list, and how many there are in all. */
export interface Part<T> {
  readonly shown: readonly T[];
  readonly total: number;
}

/** All that the page shows, at one moment. Times in milliseconds since 1970, sizes in bytes. */
export interface Overview {
  readonly version: string;
  readonly at: number;
  /** Of the regular files of all images, each counted by itself; of the objects that are stored for them. */
  readonly logicalBytes: number;
  readonly storedBytes: number;
  readonly storedObjects: number;
  readonly pending: Part<PendingImage>;
  readonly failed: number;
  readonly images: Part<ReadyImage>;
  /** Of the page of older images; empty: there are none. */
  readonly olderToken: string;
  readonly nodes: Part<NodeView>;
  readonly transfers: Part<TransferView>;
  readonly conversions: readonly RunningConversion[];
}

const ORDER = { converting: 0, failed: 1, waiting: 2 } as const;

/** Looks at what a manager has and does. */
export class Overviews {
  readonly #parts: OverviewParts;
  #sum = { images: -1, bytes: 0, at: 0 };

  constructor(parts: OverviewParts) {
    this.#parts = parts;
  }

  /** `pageToken`: as the overview before gave it; empty for the newest images. Throws invalid-argument for a token that is none. */
  look(pageToken = '', now = Date.now()): Overview {
    const { store, conversions, nodes } = this.#parts;
    const { images, nextPageToken } = listImages(store, { pageSize: IMAGES_PER_PAGE, pageToken });
    const all = nodes.list(now);
    const held = heldOn(all.flatMap(({ last }) => last?.images ?? []));
    const pending = this.#pending();
    const { bytes, objects } = store.usage;
    return {
      version: VERSION,
      at: now,
      logicalBytes: this.#fileBytes(now),
      storedBytes: bytes,
      storedObjects: objects,
      pending: { shown: pending.slice(0, MAX_PENDING), total: pending.length },
      failed: pending.filter(({ state }) => state === 'failed').length,
      images: {
        total: store.totals().images,
        shown: images.map((image) => ({
          source: image.source,
          destination: image.destination,
          fileBytes: Number(image.fileBytes),
          objectBytes: Number(image.objectBytes),
          objects: Number(image.objects),
          convertedAt: Number(image.convertedAt),
          warnings: image.warnings,
          nodes: held.get(image.indexDigest)?.nodes ?? 0,
          complete: held.get(image.indexDigest)?.complete ?? 0,
        })),
      },
      olderToken: nextPageToken,
      nodes: { shown: all.slice(0, MAX_NODES).map(viewOf), total: all.length },
      transfers: this.#transfers(new Map(images.map(({ indexDigest, source }) => [indexDigest, source]))),
      conversions: conversions.list(),
    };
  }

  #pending(): PendingImage[] {
    const found: PendingImage[] = [];
    for (const { state, goneAt, ...tag } of this.#parts.tags()) {
      if (goneAt === undefined && (state === 'waiting' || state === 'converting' || state === 'failed'))
        found.push({ ...tag, state });
    }
    return found.sort((a, b) => ORDER[a.state] - ORDER[b.state] || b.changedAt - a.changedAt);
  }

  #transfers(names: ReadonlyMap<string, string>): Part<TransferView> {
    const all = this.#parts.transfers.list();
    const shown = all.slice(0, MAX_TRANSFERS).map((transfer) => ({
      ...transfer,
      node: this.#parts.nodes.at(hostOf(transfer.peer)),
      imageName: names.get(transfer.image),
    }));
    return { shown, total: all.length };
  }

  #fileBytes(now: number): number {
    const { store } = this.#parts;
    const { images } = store.totals();
    if (this.#sum.images !== images || Math.abs(now - this.#sum.at) > SUM_LIFETIME)
      this.#sum = { images, bytes: store.fileBytes(), at: now };
    return this.#sum.bytes;
  }
}

type WireNode = ReturnType<OverviewParts['nodes']['list']>[number];
type WireImage = NonNullable<WireNode['last']>['images'][number];

function heldOn(images: readonly WireImage[]): Map<string, { nodes: number; complete: number }> {
  const held = new Map<string, { nodes: number; complete: number }>();
  for (const { indexDigest, state } of images) {
    const count = held.get(indexDigest) ?? { nodes: 0, complete: 0 };
    held.set(indexDigest, count);
    count.nodes++;
    if (state === NodeImage_State.STATE_COMPLETE) count.complete++;
  }
  return held;
}

function viewOf({ last, seenAt }: WireNode): NodeView {
  const images = last?.images ?? [];
  const sum = (bytes: (image: WireImage) => bigint) => images.reduce((total, image) => total + Number(bytes(image)), 0);
  const reads = last?.reads;
  return {
    name: last?.node ?? '',
    version: last?.version ?? '',
    seenAt: Number(seenAt),
    images: images.length,
    complete: images.filter(({ state }) => state === NodeImage_State.STATE_COMPLETE).length,
    imageBytes: sum(({ bytes }) => bytes),
    imageBytesHere: sum(({ bytesHere }) => bytesHere),
    cacheBytes: Number(last?.cacheBytes ?? 0n),
    reads:
      reads === undefined
        ? undefined
        : {
            privateObjects: Number(reads.privateObjects),
            publicObjects: Number(reads.publicObjects),
            remoteObjects: Number(reads.remoteObjects),
            demandBytes: Number(reads.demandBytes),
            profileBytes: Number(reads.profileBytes),
            fillBytes: Number(reads.fillBytes),
          },
  };
}
