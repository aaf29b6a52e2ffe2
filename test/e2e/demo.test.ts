import { join } from 'node:path';
import { expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { RUN_VARIABLE, tagOf, temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { gear, gearJson, launcher } from '../../deploy/sandbox/gear.ts';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { RunningProcess } from '../../deploy/sandbox/process.ts';
import { leftovers, machineState } from '../harness/leftovers.ts';
import { quickImage } from '../images/quick.ts';

interface Start {
  readonly milliseconds: number;
  readonly firstLine: string;
  readonly fetchedBytes: number;
  readonly fetchedObjects?: number;
}

/** What is left that carries the mark of this run: other tests may be at work on this machine. */
async function leftBy(run: string, before: ReadonlySet<string>): Promise<string[]> {
  const left = await leftovers(before, run);
  return left.filter((line) => line.startsWith('process') || line.includes(`gear-${tagOf(run)}-`));
}

it('shows what Gear is worth on an image of your own, and leaves nothing', async () => {
  await using folder = await temporaryFolder();
  const written = await writeOciLayout(join(folder.path, 'layout'), quickImage());
  const before = await machineState();
  const run = `demo-${process.pid}`;
  const result = await gearJson<{ objects: number; overlay2: Start[]; gear: Start[] }>(
    ['demo', written.reference, 'cat', '/etc/marker'],
    { env: { [RUN_VARIABLE]: run }, timeout: 240_000 },
  );
  const [plain, plainAgain] = result.overlay2;
  const [first, second] = result.gear;
  expect([plain, plainAgain, first, second].map((start) => start?.firstLine)).toEqual(Array(4).fill('quick'));
  expect(plain?.fetchedBytes).toBeGreaterThan(3_000_000);
  expect(first?.fetchedBytes).toBeLessThan((plain?.fetchedBytes ?? 0) / 2);
  expect(first?.fetchedObjects).toBeGreaterThan(0);
  expect(first?.fetchedObjects).toBeLessThan(10);
  expect(second).toMatchObject({ fetchedBytes: 0, fetchedObjects: 0 });
  expect(result.objects).toBeGreaterThan(300);
  expect(await leftBy(run, before)).toEqual([]);
});

it('makes a real image of what the machine has where none is named', async () => {
  const before = await machineState();
  const run = `demo-${process.pid}-own`;
  const result = await gearJson<{ objects: number; overlay2: Start[]; gear: Start[] }>(['demo'], {
    env: { [RUN_VARIABLE]: run },
    timeout: 280_000,
  });
  const [plain] = result.overlay2;
  const [first, second] = result.gear;
  expect([plain, first, second].map((start) => start?.firstLine.slice(0, 6))).toEqual(Array(3).fill('ready:'));
  expect(result.objects).toBeGreaterThan(2000);
  expect(first?.fetchedObjects).toBeGreaterThan(100);
  expect(first?.fetchedObjects).toBeLessThan(result.objects / 2);
  expect(first?.fetchedBytes).toBeLessThan(plain?.fetchedBytes ?? 0);
  expect(second).toMatchObject({ fetchedBytes: 0, fetchedObjects: 0 });
  expect(await leftBy(run, before)).toEqual([]);
});

it.each(['Starting a manager', 'fresh node with Gear'])(
  'leaves nothing when it is interrupted at "%s"',
  async (line) => {
    await using folder = await temporaryFolder();
    const written = await writeOciLayout(join(folder.path, 'layout'), quickImage());
    const before = await machineState();
    const run = `demo-${process.pid}-${line.length}`;
    await using demo = await RunningProcess.start({
      name: 'demo',
      command: launcher,
      args: ['demo', written.reference, 'cat', '/etc/marker'],
      env: { [RUN_VARIABLE]: run },
      grace: 60_000,
    });
    await until(`the demo says ${line}`, () => demo.output.includes(line), { timeout: 120_000, interval: 20 });
    demo.signal('SIGINT');
    expect(await demo.ended(), demo.output).toBe(130);
    expect(await leftBy(run, before)).toEqual([]);
  },
);

it('says what is wrong with an image that cannot be had', async () => {
  const { exitCode, stderr } = await gear(['demo', 'oci:/nowhere/at/all:latest']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('/nowhere/at/all');
});
