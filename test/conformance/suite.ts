import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { projectRoot } from '../../deploy/sandbox/gear.ts';
import { cacheFolder } from '../images/cache.ts';

/** The third-party suites and the script that builds them; they lie beside the project, not in it. */
const SUITES = join(projectRoot, '..', 'shared', 'conformance');

type SuiteName = 'graphdriver' | 'snapshotter';

const folder = join(cacheFolder, 'conformance');
const binaryOf = (name: SuiteName) => join(folder, `${name}.test`);

/** Builds what the cache lacks of the suites, which takes a few minutes; does nothing where they are not beside the project. */
export async function buildSuites(): Promise<void> {
  const build = join(SUITES, 'build');
  const names: SuiteName[] = ['graphdriver', 'snapshotter'];
  if (!existsSync(build) || names.every((name) => existsSync(binaryOf(name)))) return;
  const made = `${folder}.new`;
  await execa('nice', [build, made], { stdio: ['ignore', 'ignore', 'pipe'] });
  await mkdir(folder, { recursive: true });
  for (const name of names) await rename(join(made, `${name}.test`), binaryOf(name));
  await rm(made, { recursive: true, force: true });
}

/** The path of a built suite; undefined when the suites are not beside the project. */
export async function builtSuite(name: SuiteName): Promise<string | undefined> {
  await buildSuites();
  return existsSync(binaryOf(name)) ? binaryOf(name) : undefined;
}

/** What a Go test binary run with -test.v said of each test of the top level. */
export function resultsOf(output: string): Map<string, 'PASS' | 'FAIL' | 'SKIP'> {
  const lines = output.matchAll(/^--- (PASS|FAIL|SKIP): (\S+)/gm);
  return new Map([...lines].map(([, result, name]) => [name as string, result as 'PASS' | 'FAIL' | 'SKIP']));
}
