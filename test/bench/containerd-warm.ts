import { execa } from 'execa';
import type { Anchor } from '../images/debian.ts';
import type { Cluster } from '../support/cluster.ts';
import { dropPageCache } from '../support/page-cache.ts';
import { expectLazy, pull, SIDES, type Side, startBenchNode } from './containerd-node.ts';
import { median, type Result } from './result.ts';

/** How often a work is done, one after the other, for one figure of it warm: the shell counts in milliseconds. */
const REPEAT = 3;
const READ = 'find "$1" -xdev -type f -print0 | xargs -0 cat >/dev/null';
/** Of the whole image, its root filesystem being $1. */
const WORKS: readonly (readonly [name: string, script: string])[] = [
  ['find', 'find "$1" -xdev >/dev/null'],
  ['find with metadata', 'find "$1" -xdev -printf "%s %m %U %T@\\n" >/dev/null'],
  ['tar', 'tar -C "$1" --one-file-system -cf - . | cat >/dev/null'],
  ['read', READ],
];

interface Cost {
  readonly wall: number;
  /** User and system time of the processes that do the work. */
  readonly cpu: number;
}

/** The milliseconds that a work takes in a root filesystem. */
async function costOf(script: string, root: string, times = 1): Promise<Cost> {
  const counted = `TIMEFORMAT='%3R %3U %3S'; time for ((i = 0; i < ${times}; i++)); do ${script}; done`;
  const { stderr } = await execa('bash', ['-c', counted, 'bash', root]);
  const [wall = Number.NaN, user = Number.NaN, system = Number.NaN] = (stderr.split('\n').at(-1) ?? '')
    .split(' ')
    .map((text) => (Number(text) * 1000) / times);
  if (Number.isNaN(wall + user + system)) throw new Error(`${script}: no times in ${JSON.stringify(stderr)}`);
  return { wall, cpu: user + system };
}

/**
 * The whole image, all of whose objects are on the node, through both snapshotters of one containerd, in containers that were started when it was there. In
 * the very container that brought it here overlayfs keeps the files open through the object filesystem: that one is shown too, with nothing asked of it.
 * The limit is for processor time, which other work on the machine hardly changes; with the page cache cold the disk decides, so time by the clock is shown.
 */
export async function presentImage(cluster: Cluster, anchor: Anchor, image: string, rounds: number): Promise<Result[]> {
  await using node = await startBenchNode(cluster);
  const { containerd } = node;
  const start = async (side: Side, id: string) => {
    await containerd.start(side, image, id, 'sleep', '100000');
    return containerd.rootOf(id);
  };
  // To runc the containers of every containerd on the machine are one's own.
  const own = (name: string) => `${name}-${process.pid}`;
  const ids = { overlayfs: own('overlayfs'), fetching: own('fetching'), gear: own('gear') };
  for (const side of SIDES) await pull(containerd, side, image);
  const fetching = await start('gear', ids.fetching);
  await execa('sh', ['-c', READ, 'sh', fetching]);
  const roots = { overlayfs: await start('overlayfs', ids.overlayfs), gear: await start('gear', ids.gear) };
  await expectLazy(node, image);
  const results: Result[] = [];
  const named = (work: string, what: string) => `containerd, ${anchor.name}: ${work} of the whole image, ${what}`;
  const figure = (name: string, gear: readonly number[], overlayfs: readonly number[], most?: number): void => {
    const value = median(gear);
    const beside = { name: 'overlayfs', value: median(overlayfs) };
    const limit = most === undefined ? {} : { limit: { what: 'times overlayfs', most, value: value / beside.value } };
    results.push({ name, value, unit: 'ms', beside, ...limit });
  };
  for (const [work, script] of WORKS) {
    const warm: Record<Side, Cost[]> = { overlayfs: [], gear: [] };
    const there: Cost[] = [];
    for (const root of [roots.overlayfs, roots.gear, fetching]) await costOf(script, root);
    for (let round = 0; round < rounds; round += 1) {
      for (const side of SIDES) warm[side].push(await costOf(script, roots[side], REPEAT));
      there.push(await costOf(script, fetching));
    }
    const wall = (costs: readonly Cost[]) => costs.map((cost) => cost.wall);
    const cpu = (costs: readonly Cost[]) => costs.map((cost) => cost.cpu);
    const later = 'page cache warm, in a container started when all was here';
    figure(named(work, `${later}, processor time`), cpu(warm.gear), cpu(warm.overlayfs), 1.1);
    figure(named(work, later), wall(warm.gear), wall(warm.overlayfs));
    figure(named(work, 'page cache warm, in the container that brought it here'), wall(there), wall(warm.overlayfs));
  }
  // Last: it ends what the container that brought the image here still has open.
  for (const [work, script] of WORKS) {
    const cold: Record<Side, number[]> = { overlayfs: [], gear: [] };
    for (let round = 0; round < rounds; round += 1) {
      for (const side of SIDES) {
        await dropPageCache();
        cold[side].push((await costOf(script, roots[side])).wall);
      }
    }
    figure(named(work, 'page cache cold'), cold.gear, cold.overlayfs);
  }
  for (const id of Object.values(ids)) await containerd.remove(id);
  return results;
}
