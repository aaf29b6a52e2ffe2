import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { isGearError } from '#core/errors.ts';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { startDriver } from '../../deploy/sandbox/gear.ts';
import type { Anchor } from '../images/debian.ts';
import type { Cluster } from '../support/cluster.ts';
import { SnapshotsClient } from '../support/snapshots-client.ts';
import { startBenchNode } from './containerd-node.ts';
import { median, type Result, timed } from './result.ts';

/** containerd removes whatever nobody holds, and what a snapshotter has that it does not know itself. */
const HELD = { 'containerd.io/gc.root': 'bench' };
/** How often the layers of an image that is on the node are prepared in a round. */
const AGAIN = 10;

/** The digests of an image's layers, from the lowest on. */
async function layersOf(layout: string): Promise<string[]> {
  const read = async (path: string): Promise<unknown> => JSON.parse(await readFile(join(layout, path), 'utf8'));
  const { manifests } = (await read('index.json')) as { manifests: { digest: string }[] };
  const digest = manifests[0]?.digest;
  if (digest === undefined) throw new Error(`${layout} holds no image`);
  const { layers } = (await read(join('blobs', digest.replace(':', '/')))) as { layers: { digest: string }[] };
  return layers.map((layer) => layer.digest);
}

/** Prepares an image's layers one above the other as CRI does; the milliseconds of each. */
async function prepareAll(client: SnapshotsClient, layers: readonly string[], prefix: string): Promise<number[]> {
  let parent = '';
  const times: number[] = [];
  for (const [position, layer] of layers.entries()) {
    const target = `${prefix}-chain-${position}`;
    const labels = {
      ...HELD,
      'containerd.io/snapshot.ref': target,
      'containerd.io/snapshot/cri.layer-digest': layer,
      'containerd.io/snapshot/cri.image-layers': layers.slice(position).join(','),
    };
    const taken = await timed(async () => {
      const answer = await client
        .prepare(`${prefix}-extract-${position}`, parent, labels)
        .catch((error: unknown) => error);
      if (!isAlreadyExists(answer)) throw new Error(`layer ${layer} is not lazy`, { cause: answer });
    });
    times.push(taken);
    parent = target;
  }
  return times;
}

function isAlreadyExists(answer: unknown): boolean {
  if (isGearError(answer, 'already-exists')) return true;
  return answer instanceof Error && 'code' in answer && answer.code === status.ALREADY_EXISTS;
}

/**
 * How long a layer that the manager knows takes to prepare. Beside it an empty snapshot of overlayfs: both by way of containerd, which flushes a row of its
 * own for each, and the driver alone, which is what the limit is for.
 */
export async function prepares(cluster: Cluster, anchor: Anchor, layout: string, rounds: number): Promise<Result[]> {
  const layers = await layersOf(layout);
  const first: number[] = [];
  const ways = { driver: [] as number[], containerd: [] as number[], overlayfs: [] as number[] };
  for (let round = 0; round < rounds; round += 1) {
    await using folder = await temporaryFolder();
    const socket = join(folder.path, 'snap.sock');
    await using _alone = await startDriver({
      manager: cluster.manager.address,
      args: ['--containerd-socket', socket],
    });
    await using node = await startBenchNode(cluster);
    using driver = new SnapshotsClient(socket);
    using containerd = new SnapshotsClient(node.containerd.socket);
    using overlayfs = new SnapshotsClient(node.containerd.socket, 'default', 'overlayfs');
    // The connections and the first steps of each are not the layer's.
    for (const client of [driver, containerd, overlayfs]) await client.prepare('empty');
    first.push(Math.max(...(await prepareAll(driver, layers, 'first'))));
    // As on a node: beside what the driver makes ready after an image's last layer.
    for (let again = 0; again < AGAIN; again += 1) {
      ways.driver.push(...(await prepareAll(driver, layers, `again-${again}`)));
      ways.containerd.push(...(await prepareAll(containerd, layers, `again-${again}`)));
      for (const position of layers.keys()) {
        ways.overlayfs.push(await timed(() => overlayfs.prepare(`plain-${again}-${position}`, '', HELD)));
      }
    }
  }
  const known = median(ways.driver);
  const name = `containerd, ${anchor.name}: prepare of a known layer`;
  const unit = 'ms';
  const slowest = median(first);
  return [
    {
      ...{ name: `${name}, the slowest of an image whose indexes are not on the node`, value: slowest, unit },
      limit: { what: 'ms', most: 10, value: slowest },
    },
    { name: `${name}, its index on the node`, value: known, unit, limit: { what: 'ms', most: 10, value: known } },
    {
      ...{ name: `${name}, its index on the node, by way of containerd`, value: median(ways.containerd), unit },
      beside: { name: 'an empty snapshot of overlayfs', value: median(ways.overlayfs) },
    },
  ];
}
