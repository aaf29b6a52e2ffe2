import { readFile } from 'node:fs/promises';
import { gear, startManager } from '../../deploy/sandbox/gear.ts';
import { startRegistry } from '../../deploy/sandbox/registry.ts';
import { copyImage } from '../../deploy/sandbox/skopeo.ts';
import { ANCHORS, anchorImage } from '../images/debian.ts';
import { type Bench, median, timed } from './result.ts';

/** The most memory that a process has had resident, in MB. */
async function peakMegabytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return (Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) * 1024) / 1_000_000;
}

/** Conversion of a real image into an empty store, and again; the manager's memory. */
export const conversionBench: Bench = async ({ rounds, say }) => {
  const anchor = ANCHORS.find(({ name }) => name === 'postgres');
  if (anchor === undefined) throw new Error('no postgres among the anchors');
  say(`making the ${anchor.name} image (from the cache where it is there)`);
  const { reference } = await anchorImage(anchor);
  await using registry = await startRegistry();
  const name = `docker://${registry.host}/${anchor.name}:1`;
  await copyImage(reference, name, { preserveDigests: true });
  const [rates, agains, peaks]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < rounds; round += 1) {
    await using manager = await startManager({ insecureRegistries: [registry.host] });
    const convert = async () => {
      const { exitCode, stdout, stderr } = await gear(['convert', '--json', '--manager', manager.address, name]);
      if (exitCode !== 0) throw new Error(stderr);
      return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { seconds: number; layers: { tarSize: number }[] };
    };
    const { seconds, layers } = await convert();
    const megabytes = layers.reduce((sum, { tarSize }) => sum + tarSize, 0) / 1_000_000;
    rates.push(megabytes / seconds);
    agains.push((await timed(convert)) / 1000);
    peaks.push(await peakMegabytes(manager.process.pid));
  }
  const [rate, again, peak] = [median(rates), median(agains), Math.max(...peaks)];
  return [
    {
      name: 'conversion: layer content',
      value: rate,
      unit: 'MB/s',
      limit: { what: 'MB/s', least: 80, value: rate },
    },
    {
      name: 'conversion: again, unchanged, the whole command',
      value: again,
      unit: 's',
      limit: { what: 's', most: 1, value: again },
    },
    {
      name: "conversion: the manager's most memory",
      value: peak,
      unit: 'MB',
      limit: { what: 'MB', most: 300, value: peak },
    },
  ];
};
