import { execa } from 'execa';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { startDriver } from '../../deploy/sandbox/gear.ts';
import { skip } from '../support/skip.ts';
import { builtSuite, resultsOf } from './suite.ts';

const TESTS = [
  ...[
    'TestSetup',
    'TestCreateEmpty',
    'TestCreateBase',
    'TestCreateSnap',
    'TestDeepLayerRead20',
    'TestDeepLayerRead128',
  ],
  ...['TestDiffApply10Files', 'TestChanges', 'TestTeardown'],
];

it("passes moby's graphdriver suite whole", { timeout: 600_000 }, async (context) => {
  const suite = await builtSuite('graphdriver');
  if (suite === undefined) skip(context, 'the conformance suites are not beside the project (../shared/conformance)');
  await using home = await temporaryFolder();
  await using driver = await startDriver();
  const { all: output, exitCode } = await execa(suite, ['-test.v'], {
    env: { GRAPH_SOCK: driver.socket, GRAPH_NAME: driver.plugin, TMPDIR: home.path },
    all: true,
    reject: false,
  });
  const results = resultsOf(output);
  expect
    .soft(Object.fromEntries(TESTS.map((name) => [name, results.get(name)])), output)
    .toEqual(Object.fromEntries(TESTS.map((name) => [name, 'PASS'])));
  expect(exitCode, output).toBe(0);
});
