import { ociDigest } from '#core/digest.ts';
import { type HeartbeatRequest, NodeImage_State } from '#proto/gen/gear/v1/monitor.ts';
import type { ImageStats } from '../objectfs/interface.ts';
import type { NodeStatus } from './node-status.ts';

const STATES = {
  lazy: NodeImage_State.STATE_LAZY,
  filling: NodeImage_State.STATE_FILLING,
  complete: NodeImage_State.STATE_COMPLETE,
} as const;

/** What the monitor is told of a node's status. */
export function heartbeatOf(node: string, status: NodeStatus): HeartbeatRequest {
  const { objectFilesystem: stats } = status;
  const sum = (count: (image: ImageStats) => number) =>
    BigInt(stats.images.reduce((total, image) => total + count(image), 0));
  return {
    node,
    version: status.version,
    cacheBytes: BigInt(stats.cacheBytes ?? 0),
    fetchedBytes: BigInt(stats.fetchedBytes),
    fetchedObjects: BigInt(stats.fetchedObjects),
    reads: {
      privateObjects: sum(({ touchedObjects }) => touchedObjects),
      publicObjects: sum(({ fromPublic }) => fromPublic),
      remoteObjects: sum(({ fromRemote }) => fromRemote),
      demandBytes: BigInt(stats.demandBytes),
      profileBytes: BigInt(stats.prefetchedBytes),
      fillBytes: BigInt(Math.max(0, stats.fetchedBytes - stats.demandBytes)),
    },
    images: status.images.map((image) => ({
      indexDigest: ociDigest(image.image),
      state: STATES[image.state],
      objects: BigInt(image.objects),
      objectsHere: BigInt(image.objectsHere),
      bytes: BigInt(image.bytes),
      bytesHere: BigInt(image.bytesHere),
      users: image.users,
    })),
  };
}
