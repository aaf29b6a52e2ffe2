import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { execa } from 'execa';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { projectRoot } from '../../deploy/sandbox/gear.ts';
import { buildSuites } from '../conformance/suite.ts';
import { staleGeneratedFiles } from './generated.ts';

/** What a step counted. */
export interface Totals {
  passed: number;
  failed: number;
  /** What failed, and the first lines of what each said: a log that is kept only in part still ends with them. */
  failures: string[];
  /** Why each skipped test was. */
  skipped: string[];
}

export interface Step {
  readonly name: string;
  /** What may go on beside the steps before; what it fails at, the step itself finds missing. */
  prepare?(): Promise<void>;
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
      const failed = exitCode !== 0;
      return {
        passed: failed ? 0 : 1,
        failed: failed ? 1 : 0,
        failures: failed ? [`${name}: exit code ${exitCode}`] : [],
        skipped: [],
      };
    },
  };
}

const generated: Step = {
  name: 'generated code',
  run: async () => {
    const stale = await staleGeneratedFiles();
    for (const file of stale) console.log(`proto/gen/${file} is not what buf generate makes: npm run generate`);
    return {
      passed: stale.length === 0 ? 1 : 0,
      failed: stale.length === 0 ? 0 : 1,
      failures: stale.map((file) => `proto/gen/${file} is stale`),
      skipped: [],
    };
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
      readonly failureMessages?: readonly string[];
      readonly meta?: { readonly skipReason?: string };
    }[];
  }[];
}

const FAILURE_LINES = 12;

/** A failure as the end of a run tells it. */
function failure(file: string, test: string, messages: readonly string[]): string {
  const lines = stripVTControlCharacters(messages.join('\n')).split('\n').slice(0, FAILURE_LINES);
  return [`${file}: ${test}`, ...lines.map((line) => `    ${line}`)].join('\n');
}

/** Counts a report of vitest; a file that failed without a failed test of its own (it did not load, or its hook threw) counts as one. */
export function totalsOf(report: VitestReport): Totals {
  const totals: Totals = { passed: 0, failed: 0, failures: [], skipped: [] };
  for (const file of report.testResults) {
    const name = file.name.slice(projectRoot.length + 1);
    const failures: string[] = [];
    for (const { status, fullName, failureMessages, meta } of file.assertionResults) {
      if (status === 'passed') totals.passed += 1;
      else if (status === 'failed') failures.push(failure(name, fullName, failureMessages ?? []));
      else totals.skipped.push(`${name}: ${fullName}: ${meta?.skipReason ?? 'no reason given'}`);
    }
    if (failures.length === 0 && file.status === 'failed') {
      failures.push(failure(name, 'the file itself', [file.message ?? '']));
    }
    totals.failed += failures.length;
    totals.failures.push(...failures);
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
      if (text === undefined)
        return { passed: 0, failed: 1, failures: [`${name}: vitest ended before it had a report`], skipped: [] };
      const totals = totalsOf(JSON.parse(text) as VitestReport);
      // An error outside of every test (an unhandled rejection) fails the run without failing a test.
      if (exitCode !== 0 && totals.failed === 0) {
        totals.failed = 1;
        totals.failures.push(`${name}: an error outside of every test; see above`);
      }
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
const CONFORMANCE = [{ ...vitest('conformance', 'root', ['test/conformance']), prepare: buildSuites }];
const STACK = [vitest('docker-compose.yml', 'stack', [])];
const E2E = [vitest('end-to-end tests', 'e2e', [])];

/** The steps of each word that test/run takes. */
export const STEPS: Readonly<Record<string, readonly Step[]>> = {
  check: CHECKS,
  unit: UNIT,
  root: ROOT,
  conformance: CONFORMANCE,
  e2e: E2E,
  stack: STACK,
  all: [...CHECKS, ...UNIT, ...ROOT, ...CONFORMANCE, ...E2E],
};
