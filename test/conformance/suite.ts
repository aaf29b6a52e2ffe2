import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { projectRoot } from '../../deploy/sandbox/gear.ts';
import { cacheFolder } from '../images/cache.ts';

/** The third-party suites and the script that builds them; they lie beside the project, not in it. */
const SUITES = join(projectRoot, '..', 'shared', 'conformance');

/** The path of a built suite, from the cache, built where it is missing (a few minutes); undefined when the suites are not beside the project. */
export async function builtSuite(name: 'graphdriver' | 'snapshotter'): Promise<string | undefined> {
  const build = join(SUITES, 'build');
  const folder = join(cacheFolder, 'conformance');
  const binary = join(folder, `${name}.test`);
  if (existsSync(binary)) return binary;
  if (!existsSync(build)) return undefined;
  await execa(build, [folder], { stdio: ['ignore', 'inherit', 'inherit'] });
  return binary;
}

/** What a Go test binary run with -test.v said of each test of the top level. */
export function resultsOf(output: string): Map<string, 'PASS' | 'FAIL' | 'SKIP'> {
  const lines = output.matchAll(/^--- (PASS|FAIL|SKIP): (\S+)/gm);
  return new Map([...lines].map(([, result, name]) => [name as string, result as 'PASS' | 'FAIL' | 'SKIP']));
}
