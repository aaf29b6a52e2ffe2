import { startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { copyImage } from '../../deploy/sandbox/skopeo.ts';
import { ANCHORS, type Anchor, anchorImage } from '../images/debian.ts';
import { type Cluster, convertImage, startCluster } from '../support/cluster.ts';
import { dropPageCache } from '../support/page-cache.ts';
import { type Bench, median, type Result } from './result.ts';

/** The distinct 128 KiB chunks that a start of the image reads, in MB, where that was measured. */
const CHUNKS_READ: Readonly<Record<string, number>> = { python: 17.0, java: 38.0, node: 48.2 };
const RUN = ['run', '--rm', '--network=none'];

interface Side {
  /** Milliseconds from the start of the pull to the first line of output, and of a later run. */
  readonly cold: number[];
  readonly warm: number[];
}

async function onOverlay2(anchor: Anchor, image: string, times: Side): Promise<void> {
  await using dockerd = await startDockerd();
  await dropPageCache();
  const started = performance.now();
  await dockerd.docker.run(['pull', '--quiet', image], { timeout: 600_000 });
  const pulled = performance.now() - started;
  times.cold.push(pulled + (await dockerd.docker.firstLine([...RUN, image, ...anchor.command])).milliseconds);
  times.warm.push((await dockerd.docker.firstLine([...RUN, image, ...anchor.command])).milliseconds);
}

async function onGear(cluster: Cluster, anchor: Anchor, image: string, times: Side): Promise<number> {
  // Without a profile of the rounds before: what is fetched is what the start reads.
  await using node = await cluster.node({ driver: { args: ['--prefetch', 'off', '--audit', '0'] } });
  await dropPageCache();
  const started = performance.now();
  await node.docker.run(['pull', '--quiet', image]);
  const pulled = performance.now() - started;
  times.cold.push(pulled + (await node.docker.firstLine([...RUN, image, ...anchor.command])).milliseconds);
  const { bytes } = await node.fetched();
  times.warm.push((await node.docker.firstLine([...RUN, image, ...anchor.command])).milliseconds);
  return bytes;
}

async function measure(cluster: Cluster, anchor: Anchor, rounds: number): Promise<Result[]> {
  const { reference } = await anchorImage(anchor);
  const name = `${cluster.registry.host}/${anchor.name}`;
  await copyImage(reference, `docker://${name}:1`, { preserveDigests: true });
  await convertImage(cluster.manager, `docker://${name}:1`, `docker://${name}-gear:1`);
  const plain: Side = { cold: [], warm: [] };
  const gear: Side = { cold: [], warm: [] };
  const fetched: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    await onOverlay2(anchor, `${name}:1`, plain);
    fetched.push(await onGear(cluster, anchor, `${name}-gear:1`, gear));
  }
  const megabytes = median(fetched) / 1_000_000;
  const most = CHUNKS_READ[anchor.name];
  return [
    {
      name: `start of ${anchor.name}: fetched`,
      value: megabytes,
      unit: 'MB',
      ...(most === undefined
        ? {}
        : { limit: { what: 'times the chunks that it reads', most: 1, value: megabytes / most } }),
    },
    ...(['cold', 'warm'] as const).map((state) => ({
      name: `start of ${anchor.name}: ${state === 'cold' ? 'pull and first line' : 'first line of the second container'}`,
      value: median(gear[state]),
      unit: 'ms',
      beside: { name: 'overlay2', value: median(plain[state]) },
    })),
  ];
}

/** Starts of real images on nodes that have never seen them: time to the first line, and what was fetched. */
export const startsBench: Bench = async ({ rounds, say }) => {
  await using cluster = await startCluster();
  const results: Result[] = [];
  for (const anchor of ANCHORS) {
    say(`${anchor.name} (the image is made where the cache has none)`);
    results.push(...(await measure(cluster, anchor, rounds)));
  }
  return results;
};
