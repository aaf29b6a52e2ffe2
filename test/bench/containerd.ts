import { copyImage } from '../../deploy/sandbox/skopeo.ts';
import { ANCHORS, type Anchor, anchorImage } from '../images/debian.ts';
import { type Cluster, convertImage, startCluster } from '../support/cluster.ts';
import { dropPageCache } from '../support/page-cache.ts';
import { expectLazy, pull, SIDES, type Side, startBenchNode } from './containerd-node.ts';
import { prepares } from './containerd-prepare.ts';
import { presentImage } from './containerd-warm.ts';
import { type Bench, median, type Result, timed } from './result.ts';

const IMAGES = ['python', 'nginx', 'java', 'node'];
/**
 * Pull and run with stargz 0.12 and optimised eStargz, the quickest other lazy snapshotter that we measured, as parts of what containerd's overlayfs took
 * for the same images on the same machine. Its own start was in the profile that each image was optimised for.
 */
const PEER: Readonly<Record<string, number>> = {
  ...{ python: 0.26, redis: 0.24, nginx: 0.2, gcc: 0.12 },
  ...{ node: 0.41, java: 0.41, postgres: 0.22 },
};

interface Start {
  readonly pull: number;
  readonly run: number;
}

async function coldStart(cluster: Cluster, side: Side, anchor: Anchor, image: string): Promise<Start> {
  await using node = await startBenchNode(cluster);
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
  const whole = figure('pull and run', (start) => start.pull + start.run);
  const peer = PEER[anchor.name];
  return [
    peer === undefined ? whole : { ...whole, peer: { name: 'stargz', timesBeside: peer } },
    figure('pull', (start) => start.pull),
    figure('run', (start) => start.run),
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
    results.push(...(await presentImage(cluster, anchor, `${name}:1`, rounds)));
    results.push(...(await prepares(cluster, anchor, layout, rounds)));
  }
  return results;
};
