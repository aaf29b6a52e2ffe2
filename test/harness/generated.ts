import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { projectRoot } from '../../deploy/sandbox/gear.ts';

async function filesOf(folder: string): Promise<Map<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(
    await Promise.all(
      files.map(async (path) => [path.slice(folder.length + 1), await readFile(path, 'utf8')] as const),
    ),
  );
}

/** Generates the code of proto/ again, elsewhere; gives the files of proto/gen that differ from it. */
export async function staleGeneratedFiles(): Promise<string[]> {
  await using folder = await temporaryFolder();
  await execa('buf', ['generate', '--output', folder.path], { cwd: projectRoot });
  const [fresh, committed] = await Promise.all([
    filesOf(join(folder.path, 'proto/gen')),
    filesOf(join(projectRoot, 'proto/gen')),
  ]);
  const names = [...new Set([...fresh.keys(), ...committed.keys()])].sort();
  return names.filter((name) => fresh.get(name) !== committed.get(name));
}
