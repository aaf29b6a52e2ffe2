import { endProcesses, RUN_VARIABLE } from '../../deploy/sandbox/cleanup.ts';
import { leftovers, machineState, processesOf } from './leftovers.ts';
import { STEPS, type Totals } from './steps.ts';

const [group = 'all', ...filters] = process.argv.slice(2);
const steps = STEPS[group];
if (steps === undefined) {
  console.error(`test/run: unknown group ${JSON.stringify(group)}; there are ${Object.keys(STEPS).join(', ')}`);
  process.exit(2);
}

const run = `run-${process.pid}-${Date.now()}`;
process.env[RUN_VARIABLE] = run;
const before = await machineState();
const sum: Totals = { passed: 0, failed: 0, failures: [], skipped: [] };
const failedSteps: string[] = [];
const prepared = new Map(
  steps.map((step) => [step, step.prepare?.().catch((error: unknown) => console.error(`${step.name}: ${error}`))]),
);

for (const step of steps) {
  const started = performance.now();
  console.log(`\n=== ${step.name}`);
  await prepared.get(step);
  const totals = await step.run(filters).catch((error: unknown): Totals => {
    console.error(error);
    return { passed: 0, failed: 1, failures: [`${step.name}: ${String(error)}`], skipped: [] };
  });
  sum.passed += totals.passed;
  sum.failed += totals.failed;
  sum.failures.push(...totals.failures);
  sum.skipped.push(...totals.skipped);
  if (totals.failed > 0) failedSteps.push(step.name);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(
    `--- ${step.name}: ${totals.passed} ok, ${totals.failed} not ok, ${totals.skipped.length} skipped, ${seconds} s`,
  );
}

// This process carries the mark only in its own memory, so it does not find itself.
const left = await leftovers(before, run);
if (left.length > 0) {
  console.log(`\n=== left behind on this machine\n${left.join('\n')}`);
  await endProcesses((await processesOf(run)).map(({ pid }) => pid));
  sum.failed += 1;
  sum.failures.push('something was left behind; see above');
  failedSteps.push('nothing left behind');
} else {
  sum.passed += 1;
}

if (sum.skipped.length > 0) console.log(`\n=== skipped\n${sum.skipped.join('\n')}`);
if (sum.failures.length > 0) console.log(`\n=== not ok\n${sum.failures.join('\n')}`);
if (failedSteps.length > 0) console.log(`\nFailed: ${failedSteps.join(', ')}`);
console.log(`\n${sum.skipped.length} skipped`);
console.log(`${sum.passed} passed, ${sum.failed} failed`);
process.exitCode = sum.failed > 0 ? 1 : 0;
