import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { execa } from 'execa';
import { isGearError } from '#core/errors.ts';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { gearJson, startDriver, type TestDriver } from '../../deploy/sandbox/gear.ts';
import { copyImage } from '../../deploy/sandbox/skopeo.ts';
import type { NodeStatus } from '../../driver/status/node-status.ts';
import { ANCHORS, type Anchor, anchorImage } from '../images/debian.ts';
import { type Cluster, convertImage, startCluster } from '../support/cluster.ts';
import { type Containerd, startContainerd } from '../support/containerd.ts';
import { dropPageCache } from '../support/page-cache.ts';
import { SnapshotsClient } from '../support/snapshots-client.ts';
import { type Bench, median, type Result, timed } from './result.ts';

const IMAGES = ['python', 'nginx', 'java', 'node'];
const SIDES = ['overlayfs', 'gear'] as const;
type Side = (typeof SIDES)[number];
/** How often the layers of an image that is on the node are prepared in a round. */
const AGAIN = 5;

const READ = 'find "$1" -xdev -type f -print0 | xargs -0 cat >/dev/null';
/** Of the whole image, its root filesystem being $1. */
const WORKS: readonly (readonly [name: string, script: string])[] = [
  ['find', 'find "$1" -xdev >/dev/null'],
  ['find with metadata', 'find "$1" -xdev -printf "%s %m %u %T@\\n" >/dev/null'],
  ['tar', 'tar -C "$1" --one-file-system -cf - . | cat >/dev/null'],
  ['read', READ],
];

interface Node extends AsyncDisposable {
  readonly driver: TestDriver;
  readonly socket: string;
  readonly containerd: Containerd;
}

/** A node that has never seen anything: a driver, and a containerd that has it as a snapshotter beside its own. */
async function startNode(cluster: Cluster): Promise<Node> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const socket = join(folder.path, 'snap.sock');
  const manager = { manager: cluster.manager.address, monitor: cluster.manager.monitor };
  const driver = stack.use(await startDriver({ ...manager, args: ['--containerd-socket', socket] }));
  const containerd = stack.use(await startContainerd({ snapshotter: socket }));
  const owned = stack.move();
  return { driver, socket, containerd, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function pull(containerd: Containerd, side: Side, image: string): Promise<void> {
  if (side === 'gear') await containerd.rpull(image);
  else await containerd.ctr('images', 'pull', '--plain-http', '--snapshotter', side, image);
}

/** Fails where a figure would be that of an ordinary image. */
async function expectLazy({ driver }: Node, image: string): Promise<void> {
  const { containerd } = await gearJson<NodeStatus>(['status', '--root', driver.root]);
  const why = containerd?.ordinary.map(({ reason }) => reason).join(', ') ?? 'containerd is not served';
  if (containerd?.lazy === 0 || why !== '') throw new Error(`${image} is not lazy: ${why}`);
}

interface Start {
  readonly pull: number;
  readonly run: number;
}

async function coldStart(cluster: Cluster, side: Side, anchor: Anchor, image: string): Promise<Start> {
  await using node = await startNode(cluster);
  await dropPageCache();
  const pulled = await timed(() => pull(node.containerd, side, image));
  const run = await timed(() => node.containerd.run(side, image, ...anchor.command));
  if (side === 'gear') await expectLazy(node, image);
  return { pull: pulled, run };
}

async function coldStarts(
  cluster: Cluster,
  anchor: Anchor,
  image: string,
  { rounds, say }: Parameters<Bench>[0],
): Promise<Result[]> {
  const found: Record<Side, Start[]> = { overlayfs: [], gear: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const side of SIDES) {
      const start = await coldStart(cluster, side, anchor, image);
      say(`  ${side}: pull ${Math.round(start.pull)} ms, run ${Math.round(start.run)} ms`);
      found[side].push(start);
    }
  }
  const figure = (what: string, of: (start: Start) => number): Result => ({
    name: `containerd, ${anchor.name}: cold ${what}`,
    value: median(found.gear.map(of)),
    unit: 'ms',
    beside: { name: 'overlayfs', value: median(found.overlayfs.map(of)) },
  });
  return [
    figure('pull and run', (start) => start.pull + start.run),
    figure('pull', (start) => start.pull),
    figure('run', (start) => start.run),
  ];
}

/** The whole image, which is on the node, through both snapshotters of one containerd: in the container that brought it here, and in a later one. */
async function warmWork(cluster: Cluster, anchor: Anchor, image: string, rounds: number): Promise<Result[]> {
  await using node = await startNode(cluster);
  const { containerd } = node;
  const start = async (side: Side, id: string) => {
    await containerd.start(side, image, id, 'sleep', '100000');
    return containerd.rootOf(id);
  };
  for (const side of SIDES) await pull(containerd, side, image);
  const overlayfs = await start('overlayfs', 'overlayfs');
  const first = await start('gear', 'first');
  await execa('sh', ['-c', READ, 'sh', first]);
  const roots = { overlayfs, first, later: await start('gear', 'later') };
  await expectLazy(node, image);
  const results: Result[] = [];
  for (const [work, script] of WORKS) {
    const times = { overlayfs: [] as number[], first: [] as number[], later: [] as number[] };
    for (let round = 0; round < rounds; round += 1) {
      for (const place of ['overlayfs', 'first', 'later'] as const) {
        const run = () => execa('sh', ['-c', script, 'sh', roots[place]]);
        if (round === 0) await run();
        times[place].push(await timed(run));
      }
    }
    const beside = { name: 'overlayfs', value: median(times.overlayfs) };
    for (const [place, which] of [
      ['first', 'in the container that brought the image here'],
      ['later', 'in a later container'],
    ] as const) {
      const value = median(times[place]);
      results.push({
        name: `containerd, ${anchor.name}: ${work}, warm, ${which}`,
        value,
        unit: 'ms',
        beside,
        limit: { what: 'times overlayfs', most: 1.1, value: value / beside.value },
      });
    }
  }
  for (const id of ['overlayfs', 'first', 'later']) await containerd.remove(id);
  return results;
}

/** The digests of an image's layers, from the lowest on. */
async function layersOf(layout: string): Promise<string[]> {
  const read = async (path: string): Promise<unknown> => JSON.parse(await readFile(join(layout, path), 'utf8'));
  const { manifests } = (await read('index.json')) as { manifests: { digest: string }[] };
  const digest = manifests[0]?.digest;
  if (digest === undefined) throw new Error(`${layout} holds no image`);
  const { layers } = (await read(join('blobs', digest.replace(':', '/')))) as { layers: { digest: string }[] };
  return layers.map((layer) => layer.digest);
}

/** Prepares an image's layers one above the other as CRI does; the milliseconds of the slowest. */
async function prepareAll(client: SnapshotsClient, layers: readonly string[], prefix: string): Promise<number> {
  let parent = '';
  let slowest = 0;
  for (const [position, layer] of layers.entries()) {
    const target = `${prefix}-chain-${position}`;
    const labels = {
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
    slowest = Math.max(slowest, taken);
    const [committed] = await client.list(`labels."containerd.io/snapshot.ref"==${target}`);
    parent = committed?.name ?? '';
  }
  return slowest;
}

function isAlreadyExists(answer: unknown): boolean {
  if (isGearError(answer, 'already-exists')) return true;
  return answer instanceof Error && 'code' in answer && answer.code === status.ALREADY_EXISTS;
}

async function prepares(cluster: Cluster, anchor: Anchor, layout: string, rounds: number): Promise<Result[]> {
  const layers = await layersOf(layout);
  const times = { first: [] as number[], again: [] as number[] };
  for (let round = 0; round < rounds; round += 1) {
    await using folder = await temporaryFolder();
    const socket = join(folder.path, 'snap.sock');
    const args = ['--containerd-socket', socket];
    await using _driver = await startDriver({ manager: cluster.manager.address, args });
    using client = new SnapshotsClient(socket);
    // The connection and the driver's first steps are not the layer's.
    await client.prepare('empty');
    times.first.push(await prepareAll(client, layers, 'first'));
    // As on a node: beside what the driver makes ready after an image's last layer.
    for (let again = 0; again < AGAIN; again += 1) times.again.push(await prepareAll(client, layers, `again-${again}`));
  }
  const figure = (what: string, value: number): Result => ({
    name: `containerd, ${anchor.name}: prepare of the slowest known layer, ${what}`,
    value,
    unit: 'ms',
    limit: { what: 'ms', most: 10, value },
  });
  return [
    figure('its index not on the node', median(times.first)),
    figure('its index on the node', median(times.again)),
  ];
}

/** Unmodified images under containerd: Gear's snapshotter beside overlayfs. */
export const containerdBench: Bench = async (options) => {
  const { rounds, say, images = IMAGES } = options;
  const results: Result[] = [];
  await using cluster = await startCluster();
  for (const anchor of ANCHORS.filter(({ name }) => images.includes(name))) {
    say(`${anchor.name} (the image is made where the cache has none)`);
    const { reference, layout } = await anchorImage(anchor);
    const name = `${cluster.registry.host}/${anchor.name}`;
    await copyImage(reference, `docker://${name}:1`, { preserveDigests: true });
    await convertImage(cluster.manager, `docker://${name}:1`, `docker://${name}-gear:1`);
    results.push(...(await coldStarts(cluster, anchor, `${name}:1`, options)));
    results.push(...(await warmWork(cluster, anchor, `${name}:1`, rounds)));
    results.push(...(await prepares(cluster, anchor, layout, rounds)));
  }
  return results;
};
