import { type handleUnaryCall, Metadata, type ServerUnaryCall } from '@grpc/grpc-js';
import { GearError, messageOf } from '#core/errors.ts';
import { toStatus } from '#core/grpc/status.ts';
import type { Logger } from '#core/log.ts';
import { Kind, type SnapshotsServer } from '#proto/gen/containerd/services/snapshots/v1/snapshots.ts';
import type { Timestamp } from '#proto/gen/google/protobuf/timestamp.ts';
import type { Snapshot } from './metadata.ts';
import type { Snapshotter } from './snapshotter.ts';

/** The gRPC header by which clients of containerd name their namespace. containerd's own collector sends none. */
const NAMESPACE = 'containerd-namespace';

const KINDS = { view: Kind.VIEW, active: Kind.ACTIVE, committed: Kind.COMMITTED } as const;
const NANOSECONDS = 1_000_000_000n;

/** containerd.services.snapshots.v1 over a snapshotter: translates, and nothing else. */
export function snapshotsService(snapshotter: Snapshotter, log: Logger): SnapshotsServer {
  function unary<Q, A>(name: string, handle: (request: Q, namespace: string) => Promise<A>): handleUnaryCall<Q, A> {
    return (call: ServerUnaryCall<Q, A>, callback) => {
      const began = performance.now();
      void handle(call.request, namespaceOf(call.metadata)).then(
        (answer) => {
          log.debug({ call: name, ms: Math.round(performance.now() - began) }, 'call');
          callback(null, answer);
        },
        (error: unknown) => {
          report(log, name, error);
          callback(statusOf(error));
        },
      );
    };
  }

  return {
    prepare: unary('Prepare', async ({ key, parent, labels }, namespace) => ({
      mounts: await snapshotter.prepare({ key, parent, labels, namespace }),
    })),
    view: unary('View', async ({ key, parent, labels }, namespace) => ({
      mounts: await snapshotter.view({ key, parent, labels, namespace }),
    })),
    mounts: unary('Mounts', async ({ key }) => ({ mounts: await snapshotter.mounts(key) })),
    commit: unary('Commit', async ({ key, name, labels, parent }) => {
      await snapshotter.commit(key, name, labels, parent);
      return {};
    }),
    remove: unary('Remove', async ({ key }) => {
      await snapshotter.remove(key);
      return {};
    }),
    stat: unary('Stat', async ({ key }) => ({ info: infoOf(snapshotter.stat(key)) })),
    update: unary('Update', async ({ info, updateMask }) => {
      if (info === undefined) throw new GearError('invalid-argument', 'an update without the snapshot to be changed');
      return { info: infoOf(snapshotter.update(info.name, info.labels, updateMask ?? [])) };
    }),
    list: (call) => {
      const send = async () => {
        for (const page of snapshotter.list(call.request.filters)) {
          if (call.cancelled) return;
          if (!call.write({ info: page.map(infoOf) })) await drained(call);
        }
      };
      void send().then(
        () => call.end(),
        (error: unknown) => {
          report(log, 'List', error);
          call.emit('error', statusOf(error));
        },
      );
    },
    usage: unary('Usage', async ({ key }) => {
      const { size, inodes } = await snapshotter.usage(key);
      return { size: BigInt(size), inodes: BigInt(inodes) };
    }),
    cleanup: unary('Cleanup', async () => {
      await snapshotter.cleanup();
      return {};
    }),
  };
}

function namespaceOf(metadata: Metadata): string {
  return metadata.get(NAMESPACE).map(String)[0] ?? '';
}

/** A snapshot as containerd wants to hear of it. */
export function infoOf({ name, parent, kind, created, updated, labels }: Snapshot) {
  return {
    ...{ name, parent, kind: KINDS[kind], labels: { ...labels } },
    ...{ createdAt: timestamp(created), updatedAt: timestamp(updated) },
  };
}

function timestamp(nanoseconds: bigint): Timestamp {
  return { seconds: nanoseconds / NANOSECONDS, nanos: Number(nanoseconds % NANOSECONDS) };
}

function statusOf(error: unknown) {
  return { ...toStatus(error), metadata: new Metadata() };
}

function report(log: Logger, call: string, error: unknown): void {
  const expected = error instanceof GearError && error.code !== 'internal' && error.code !== 'corrupt';
  if (expected) log.debug({ call, code: error.code, reason: messageOf(error) }, 'call refused');
  else log.error({ call, err: error }, 'call failed');
}

/** Resolves when the stream takes more, or nobody reads it any longer. */
async function drained(call: {
  once(event: 'drain' | 'cancelled', listener: () => void): unknown;
  off(event: 'drain' | 'cancelled', listener: () => void): unknown;
}): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  call.once('drain', resolve);
  call.once('cancelled', resolve);
  await promise;
  call.off('drain', resolve);
  call.off('cancelled', resolve);
}
