import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { projectRoot } from '../../deploy/sandbox/gear.ts';
import { staleGeneratedFiles } from './generated.ts';

/** What a step counted. */
export interface Totals {
  passed: number;
  failed: number;
  /** Why each skipped test was. */
  skipped: string[];
}

export interface Step {
  readonly name: string;
  run(filters: readonly string[]): Promise<Totals>;
}

/** Runs a program with its output on ours; counts as one test. */
function command(name: string, program: string, args: readonly string[]): Step {
  return {
    name,
    run: async () => {
      const { exitCode } = await execa(program, args, {
        cwd: projectRoot,
        stdio: ['ignore', 'inherit', 'inherit'],
        reject: false,
      });
      return { passed: exitCode === 0 ? 1 : 0, failed: exitCode === 0 ? 0 : 1, skipped: [] };
    },
  };
}

const generated: Step = {
  name: 'generated code',
  run: async () => {
    const stale = await staleGeneratedFiles();
    for (const file of stale) console.log(`proto/gen/${file} is not what buf generate makes: npm run generate`);
    return { passed: stale.length === 0 ? 1 : 0, failed: stale.length === 0 ? 0 : 1, skipped: [] };
  },
};

interface VitestReport {
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly meta?: { readonly skipReason?: string };
    }[];
  }[];
}

/** Counts a report of vitest; a file that failed without a failed test of its own (it did not load, or its hook threw) counts as one. */
export function totalsOf(report: VitestReport): Totals {
  const totals: Totals = { passed: 0, failed: 0, skipped: [] };
  for (const file of report.testResults) {
    let failed = 0;
    for (const { status, fullName, meta } of file.assertionResults) {
      if (status === 'passed') totals.passed += 1;
      else if (status === 'failed') failed += 1;
      else
        totals.skipped.push(
          `${file.name.slice(projectRoot.length + 1)}: ${fullName}: ${meta?.skipReason ?? 'no reason given'}`,
        );
    }
    if (failed === 0 && file.status === 'failed') failed = 1;
    totals.failed += failed;
  }
  return totals;
}

/** Runs the tests of a vitest project that lie in these folders. */
function vitest(name: string, project: string, folders: readonly string[]): Step {
  return {
    name,
    run: async (filters) => {
      await using folder = await temporaryFolder();
      const file = join(folder.path, 'report.json');
      const args = ['run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
      const { exitCode } = await execa(
        'vitest',
        [...args, '--passWithNoTests', ...(filters.length > 0 ? filters : folders)],
        {
          cwd: projectRoot,
          stdio: ['ignore', 'inherit', 'inherit'],
          reject: false,
        },
      );
      const text = await readFile(file, 'utf8').catch(() => undefined);
      if (text === undefined) return { passed: 0, failed: 1, skipped: [] };
      const totals = totalsOf(JSON.parse(text) as VitestReport);
      // An error outside of every test (an unhandled rejection) fails the run without failing a test.
      if (exitCode !== 0 && totals.failed === 0) totals.failed = 1;
      return totals;
    },
  };
}

const CHECKS = [
  command('types', 'tsc', ['--noEmit']),
  command('lint', 'biome', ['check', '--error-on-warnings', '.']),
  generated,
];
const UNIT = [vitest('unit tests', 'unit', [])];
const ROOT = [vitest('root tests', 'root', ['test/root', 'test/kernel'])];
const CONFORMANCE = [vitest('conformance', 'root', ['test/conformance'])];
const E2E = [vitest('end-to-end tests', 'e2e', [])];

/** The steps of each word that test/run takes. */
export const STEPS: Readonly<Record<string, readonly Step[]>> = {
  check: CHECKS,
  unit: UNIT,
  root: ROOT,
  conformance: CONFORMANCE,
  e2e: E2E,
  all: [...CHECKS, ...UNIT, ...ROOT, ...CONFORMANCE, ...E2E],
};
