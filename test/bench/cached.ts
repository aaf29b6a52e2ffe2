import { execa } from 'execa';
import type { DockerClient } from '../../deploy/sandbox/docker.ts';
import { startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { copyImage } from '../../deploy/sandbox/skopeo.ts';
import { ANCHORS, anchorImage } from '../images/debian.ts';
import { convertImage, startCluster } from '../support/cluster.ts';
import { dropPageCache } from '../support/page-cache.ts';
import { type Bench, median, type Result, timed } from './result.ts';

const WORKS: readonly (readonly [name: string, script: string])[] = [
  ['find', 'find "$1" -xdev >/dev/null'],
  ['find with metadata', 'find "$1" -xdev -printf "%s %m %u %T@\\n" >/dev/null'],
  ['tar of /usr', 'tar -C "$1" -cf - usr | cat >/dev/null'],
  ['read of /usr', 'find "$1/usr" -xdev -type f -print0 | xargs -0 cat >/dev/null'],
];

async function mergedOf(docker: DockerClient, image: string): Promise<string> {
  const id = await docker.run(['run', '--detach', '--network=none', image, 'sleep', '100000']);
  const merged = (await docker.inspect(id)).GraphDriver.Data?.['MergedDir'];
  if (merged === undefined) throw new Error(`${image}: no MergedDir`);
  return merged;
}

/** A whole image that is on the node, walked, tarred and read through Gear and through overlay2, page cache cold and warm. */
export const cachedBench: Bench = async ({ rounds, say }) => {
  const anchor = ANCHORS.find(({ name }) => name === 'postgres');
  if (anchor === undefined) throw new Error('no postgres among the anchors');
  say(`making the ${anchor.name} image (from the cache where it is there)`);
  const { reference } = await anchorImage(anchor);
  await using cluster = await startCluster();
  const name = `${cluster.registry.host}/${anchor.name}`;
  await copyImage(reference, `docker://${name}:1`, { preserveDigests: true });
  await convertImage(cluster.manager, `docker://${name}:1`, `docker://${name}-gear:1`);
  await using plain = await startDockerd();
  await using node = await cluster.node();
  const trees = {
    overlay2: await mergedOf(plain.docker, `${name}:1`),
    gear: await mergedOf(node.docker, `${name}-gear:1`),
  };
  await execa('sh', ['-c', 'find "$1" -xdev -type f -print0 | xargs -0 cat >/dev/null', 'sh', trees.gear]);
  const results: Result[] = [];
  for (const [work, script] of WORKS) {
    for (const state of ['cold', 'warm'] as const) {
      const times = { overlay2: [] as number[], gear: [] as number[] };
      for (let round = 0; round < rounds; round += 1) {
        for (const side of ['overlay2', 'gear'] as const) {
          const run = () => execa('sh', ['-c', script, 'sh', trees[side]]);
          if (state === 'cold') await dropPageCache();
          else await run();
          times[side].push(await timed(run));
        }
      }
      const [gear, overlay2] = [median(times.gear), median(times.overlay2)];
      results.push({
        name: `cached: ${work}, page cache ${state}`,
        value: gear,
        unit: 'ms',
        beside: { name: 'overlay2', value: overlay2 },
        limit: { what: 'times overlay2', most: 1.1, value: gear / overlay2 },
      });
    }
  }
  return results;
};
