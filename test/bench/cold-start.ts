import { until } from '#core/abort.ts';
import { parseHostPort } from '#core/grpc/address.ts';
import { startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { gear } from '../../deploy/sandbox/gear.ts';
import { copyImage } from '../../deploy/sandbox/skopeo.ts';
import { ANCHORS, type Anchor, anchorImage } from '../images/debian.ts';
import { type Cluster, convertImage, startCluster, startNode } from '../support/cluster.ts';
import { dropPageCache } from '../support/page-cache.ts';
import { type Link, type LinkSpeed, openLink } from './link.ts';
import { type Bench, median, type Result } from './result.ts';

const LINKS: readonly LinkSpeed[] = [
  { name: '100 Mbit/s, 1 ms', rate: '100mbit', roundTrip: 1 },
  { name: '100 Mbit/s, 20 ms', rate: '100mbit', roundTrip: 20 },
  { name: '1 Gbit/s, 1 ms', rate: '1gbit', roundTrip: 1 },
];
/** The most that may go over the wire, pull included, in MB. */
const WIRE: Readonly<Record<string, number>> = { python: 7, java: 14, node: 18 };
const RUN = ['run', '--rm', '--network=none'];

interface Measured {
  /** From the start of the pull to the first line. */
  readonly milliseconds: number;
  /** Over the link. */
  readonly bytes: number;
}

type Way = 'plain' | 'lazy' | 'learned';

/** One cold start of an image behind a link, on a node that has never seen anything but, where it is given, has just begun to bring `other` here. */
async function coldStart(way: Way, cluster: Cluster, link: Link, anchor: Anchor, other?: Anchor): Promise<Measured> {
  await using stack = new AsyncDisposableStack();
  const registry = `${link.host}:${parseHostPort(cluster.registry.host, 'registry').port}`;
  const manager = `${link.host}:${parseHostPort(cluster.manager.address, 'manager').port}`;
  const dockerd = { insecureRegistries: [registry] };
  const { docker } =
    way === 'plain'
      ? stack.use(await startDockerd(dockerd))
      : stack.use(
          await startNode(
            { address: manager, monitor: cluster.manager.monitor },
            { dockerd, driver: { args: ['--prefetch', way === 'learned' ? 'on' : 'off', '--audit', '0'] } },
          ),
        );
  const image = `${registry}/${anchor.name}${way === 'plain' ? '' : '-gear'}:1`;
  await dropPageCache();
  if (other !== undefined) await docker.run(['pull', '--quiet', `${registry}/${other.name}-gear:1`]);
  const before = await link.received();
  const started = performance.now();
  await docker.run(['pull', '--quiet', image], { timeout: 600_000 });
  const pulled = performance.now() - started;
  const { milliseconds } = await docker.firstLine([...RUN, image, ...anchor.command]);
  return { milliseconds: pulled + milliseconds, bytes: (await link.received()) - before };
}

function portsOf(cluster: Cluster): number[] {
  return [cluster.registry.host, cluster.manager.address].map((address) => parseHostPort(address, 'server').port);
}

/** A start while the profile of a bigger image is on its way, beside one that has the link for itself. */
async function measureBeside(cluster: Cluster, anchor: Anchor, other: Anchor, rounds: number): Promise<Result> {
  const speed = LINKS[1] as LinkSpeed;
  await using link = await openLink(speed, portsOf(cluster));
  const alone: number[] = [];
  const beside: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    alone.push((await coldStart('learned', cluster, link, anchor)).milliseconds);
    beside.push((await coldStart('learned', cluster, link, anchor, other)).milliseconds);
  }
  return {
    name: `cold start of ${anchor.name} while ${other.name} is prefetched, ${speed.name}`,
    value: median(beside),
    unit: 'ms',
    beside: { name: 'alone', value: median(alone) },
    limit: { what: 'times as long', most: 1.25, value: median(beside) / median(alone) },
  };
}

/** Has the image's profile learned from a node that is not measured, and its content prepared. */
async function learn(cluster: Cluster, anchor: Anchor, say: (text: string) => void): Promise<void> {
  const image = `${cluster.registry.host}/${anchor.name}-gear:1`;
  await using node = await cluster.node();
  await node.docker.run([...RUN, image, ...anchor.command]);
  const at = ['--manager', cluster.manager.address, '--monitor', cluster.manager.monitor, '--json'];
  let shown = 0;
  const line = await until(
    'the start-up profile',
    async () => {
      const { exitCode, stdout } = await gear(['profile', 'show', ...at, image]);
      if (exitCode !== 0) return undefined;
      const { chosen, bytes, preparedBytes } = JSON.parse(stdout) as Record<string, number>;
      // Reports come in parts: the last one changes nothing any more.
      const isSettled = chosen === shown && Number(preparedBytes) > 0;
      shown = chosen ?? 0;
      return isSettled ? `${chosen} chunks, ${bytes} bytes, ${preparedBytes} compressed` : undefined;
    },
    { timeout: 120_000, interval: 3_000 },
  );
  say(`  learned: ${line}`);
}

async function measure(
  cluster: Cluster,
  anchor: Anchor,
  rounds: number,
  say: (text: string) => void,
): Promise<Result[]> {
  const { reference } = await anchorImage(anchor);
  const name = `${cluster.registry.host}/${anchor.name}`;
  await copyImage(reference, `docker://${name}:1`, { preserveDigests: true });
  await convertImage(cluster.manager, `docker://${name}:1`, `docker://${name}-gear:1`);
  await learn(cluster, anchor, say);
  const ports = portsOf(cluster);
  const results: Result[] = [];
  const wanted = process.env['GEAR_BENCH_RATES']?.split(',');
  for (const speed of LINKS) {
    if (wanted?.includes(speed.rate) === false) continue;
    await using link = await openLink(speed, ports);
    const found: Record<Way, Measured[]> = { plain: [], lazy: [], learned: [] };
    for (let round = 0; round < rounds; round += 1) {
      for (const way of ['plain', 'lazy', 'learned'] as const) {
        const measured = await coldStart(way, cluster, link, anchor);
        say(`  ${speed.name}, ${way}: ${Math.round(measured.milliseconds)} ms, ${measured.bytes} bytes`);
        found[way].push(measured);
      }
    }
    results.push(...resultsOf(anchor, speed, found));
  }
  return results;
}

function resultsOf(anchor: Anchor, speed: LinkSpeed, found: Readonly<Record<Way, readonly Measured[]>>): Result[] {
  const time = (way: Way): number => median(found[way].map(({ milliseconds }) => milliseconds));
  const wire = median(found.learned.map(({ bytes }) => bytes)) / 1_000_000;
  const name = `cold start of ${anchor.name}, ${speed.name}`;
  const isPython = anchor.name === 'python';
  const most = WIRE[anchor.name];
  return [
    {
      name: `${name}: profile known`,
      value: time('learned'),
      unit: 'ms',
      beside: { name: 'plain', value: time('plain') },
      ...(isPython && speed.rate === '100mbit'
        ? { limit: { what: 'times faster', least: 8, value: time('plain') / time('learned') } }
        : {}),
    },
    {
      name: `${name}: profile known`,
      value: time('learned'),
      unit: 'ms',
      beside: { name: 'without profile', value: time('lazy') },
      ...(isPython && speed.roundTrip === 20
        ? { limit: { what: 'times faster', least: 3, value: time('lazy') / time('learned') } }
        : {}),
    },
    {
      name: `${name}: on the wire`,
      value: wire,
      unit: 'MB',
      ...(most === undefined ? {} : { limit: { what: 'MB', most, value: wire } }),
    },
  ];
}

/** Cold starts over slow links: with a profile that another node taught, without one, and with docker's own way. */
export const coldStartBench: Bench = async ({ rounds, images, say }) => {
  await using cluster = await startCluster();
  const results: Result[] = [];
  const names = images ?? Object.keys(WIRE);
  for (const anchor of ANCHORS.filter(({ name }) => names.includes(name))) {
    say(`${anchor.name} (the image is made where the cache has none)`);
    results.push(...(await measure(cluster, anchor, rounds, say)));
  }
  const [python, node] = ['python', 'node'].map((wanted) =>
    ANCHORS.find(({ name }) => name === wanted && names.includes(name)),
  );
  if (python !== undefined && node !== undefined) results.push(await measureBeside(cluster, python, node, rounds));
  return results;
};
