import { existsSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { projectRoot } from '../../deploy/sandbox/gear.ts';

const OURS = ['core', 'proto', 'driver', 'manager', 'deploy', 'test'];
const SKIPPED = new Set(['node_modules', '.git', '.node', 'gen', 'golden']);

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(join(projectRoot, folder), { withFileTypes: true });
  const lists = entries.map(async (entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return SKIPPED.has(entry.name) ? [] : await filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
  return (await Promise.all(lists)).flat();
}

const read = (path: string): string => readFileSync(join(projectRoot, path), 'utf8');
const all = (await Promise.all(OURS.map(filesBelow))).flat().sort();
const sources = all.filter((path) => path.endsWith('.ts'));

/** What a file imports: paths from the project's root for our own, the name as written for a package. */
function importsOf(path: string, text: string): string[] {
  const pattern =
    /^(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]|^import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm;
  return [...text.matchAll(pattern)].map((match) => {
    const name = match[1] ?? match[2] ?? (match[3] as string);
    if (name.startsWith('#')) return name.slice(1);
    return name.startsWith('.') ? relative('.', join(dirname(path), name)) : name;
  });
}

/** The room of the house that a file is in: the longest of the names below that its path starts with. */
const ROOMS = [
  ...['core', 'proto', 'test', 'deploy'],
  ...['driver', 'driver/docker', 'driver/docker/gear', 'driver/containerd', 'driver/volume', 'driver/archive'],
  ...[
    'driver/snapshots',
    'driver/images',
    'driver/cache',
    'driver/remote',
    'driver/objectfs',
    'driver/kernel',
    'driver/prefetch',
    'driver/nfs',
  ],
  ...['driver/status', 'driver/doctor', 'driver/cli'],
  ...['manager', 'manager/registry', 'manager/converter', 'manager/monitor', 'manager/store', 'manager/catalog'],
  ...['manager/api', 'manager/export', 'manager/security', 'manager/cli'],
] as const;
type Room = (typeof ROOMS)[number];

function roomOf(path: string): Room | undefined {
  return ROOMS.filter((room) => path.startsWith(`${room}/`)).sort((a, b) => b.length - a.length)[0];
}

const FOUNDATION = ['core', 'proto'] as const;
/** What a room may use besides the foundation. A room that is not named here (main, status, command lines) puts the others together. */
const MAY_USE: Readonly<Partial<Record<Room, readonly Room[]>>> = {
  core: ['proto'],
  proto: [],
  'driver/kernel': [],
  'driver/archive': ['driver/kernel'],
  'driver/remote': [],
  'driver/cache': ['driver/remote', 'driver/kernel', 'driver'],
  // The mount of the manager's export: known to the driver's main and to what reports on it only, who hand its folder down.
  'driver/nfs': ['driver/remote', 'driver/kernel'],
  // What start-up profiles name goes into the cache as what is read does; who reads is not its business.
  'driver/prefetch': ['driver/cache', 'driver/remote', 'driver'],
  'driver/objectfs': ['driver/prefetch', 'driver/cache', 'driver/remote', 'driver/kernel', 'driver'],
  'driver/images': ['driver/cache', 'driver/remote', 'driver/objectfs', 'driver/kernel', 'driver'],
  'driver/snapshots': ['driver/images', 'driver/archive', 'driver/kernel', 'driver'],
  'driver/docker': ['driver/archive', 'driver/kernel'],
  'driver/docker/gear': [
    'driver/docker',
    'driver/snapshots',
    'driver/images',
    'driver/archive',
    'driver/kernel',
    'driver',
  ],
  // A snapshot's name is resolved by the manager, hence the remote; its mounts are told to containerd in place of being made, hence the kernel.
  'driver/containerd': ['driver/snapshots', 'driver/images', 'driver/remote', 'driver/kernel', 'driver'],
  'manager/store': [],
  'manager/registry': [],
  'manager/catalog': ['manager/store', 'manager/registry'],
  'manager/converter': ['manager/registry', 'manager/store', 'manager/catalog'],
  // Exports a folder, whatever lies there.
  'manager/export': [],
  // Who is let in, whatever is served.
  'manager/security': [],
  'manager/monitor': ['manager/converter', 'manager/registry', 'manager/store', 'manager/catalog'],
  'manager/api': [
    'manager/security',
    'manager/export',
    'manager/monitor',
    'manager/converter',
    'manager/registry',
    'manager/store',
    'manager/catalog',
  ],
};

/** Files of `driver/` itself that rooms below may use: where things lie, what was configured. */
const SHARED_FACTS = new Set(['driver/paths.ts', 'driver/config.ts']);

describe('the house', () => {
  it('finds the imports of a file', () => {
    const text = [
      "import { a } from '#core/a.ts';",
      "import type { B } from './b.ts';",
      "import './c.ts';",
      "export * from '../d.ts';",
      "const e = await import('./e.ts');",
      'import {\n  f,\n} from "f";',
    ].join('\n');
    expect(importsOf('driver/x/y.ts', text)).toEqual([
      'core/a.ts',
      'driver/x/b.ts',
      'driver/x/c.ts',
      'driver/d.ts',
      'driver/x/e.ts',
      'f',
    ]);
  });

  it('lets imports go down only', () => {
    const wrong: string[] = [];
    for (const path of sources) {
      const room = roomOf(path);
      const allowed = room === undefined ? undefined : MAY_USE[room];
      if (room === undefined || allowed === undefined || path.endsWith('.test.ts')) continue;
      for (const name of importsOf(path, read(path))) {
        const target = roomOf(name);
        if (target === undefined || target === room || FOUNDATION.includes(target as 'core')) {
          if (room === 'proto' && target === 'core') wrong.push(`${path} imports ${name}`);
          continue;
        }
        const isFact = target !== 'driver' || SHARED_FACTS.has(name);
        if (!allowed.includes(target) || !isFact) wrong.push(`${path} imports ${name}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it.each([
    ['driver', 'manager'],
    ['manager', 'driver'],
    ['driver/docker', 'driver/containerd'],
    ['driver/containerd', 'driver/docker'],
    ['core', 'driver'],
    ['core', 'manager'],
    ['driver', 'test'],
    ['manager', 'test'],
    ['core', 'test'],
    ['driver', 'deploy'],
    ['manager', 'deploy'],
  ])('never imports from %s to %s', (from, to) => {
    const wrong = sources
      .filter((path) => path.startsWith(`${from}/`) && !path.endsWith('.test.ts'))
      .flatMap((path) =>
        importsOf(path, read(path))
          .filter((name) => name.startsWith(`${to}/`))
          .map((name) => `${path} imports ${name}`),
      );
    expect(wrong).toEqual([]);
  });

  it('talks to Linux in driver/kernel only', () => {
    // The store flushes a filesystem, which Node has no function for.
    const allowed = /^(driver\/kernel|manager\/store|test)\//;
    const wrong = sources.filter((path) => !allowed.test(path) && importsOf(path, read(path)).includes('koffi'));
    expect(wrong).toEqual([]);
  });

  it('has no file over 400 lines', () => {
    const long = all
      .filter((path) => /\.(ts|proto|sh)$/.test(path))
      .map((path) => [path, read(path).split('\n').length - 1] as const)
      .filter(([, lines]) => lines > 400);
    expect(long).toEqual([]);
  });

  it('names files in lower case with hyphens', () => {
    expect(sources.filter((path) => !/^[a-z0-9/.-]+\.ts$/.test(path))).toEqual([]);
  });

  it('has a program for every command of the launcher', () => {
    const text = read('gear');
    const mains = [...text.matchAll(/main=(\S+\.ts)/g)].map((match) => match[1] as string);
    const lists = [...text.matchAll(/^ {2}([a-z| ]+)\) main=(\S+)\$command\.ts/gm)];
    const each = lists.flatMap(([, names, folder]) =>
      (names as string).split('|').map((name) => `${folder}${name.trim()}.ts`),
    );
    const expected = [...mains.filter((path) => !path.includes('$')), ...each];
    expect(expected.length).toBeGreaterThanOrEqual(9);
    expect(expected.filter((path) => !existsSync(join(projectRoot, path)))).toEqual([]);
  });

  it('says nothing of one machine, and leaves nothing for later', () => {
    // Put together here so that this file does not find itself.
    const words = [
      ['/work', '/main'],
      ['/work', '/shared'],
      ['TO', 'DO'],
      ['FIX', 'ME'],
      ['XXX', ':'],
    ].map((parts) => parts.join(''));
    const found = [...all, 'README.md', 'gear']
      .filter((path) => existsSync(join(projectRoot, path)))
      .flatMap((path) => words.filter((word) => read(path).includes(word)).map((word) => `${path}: ${word}`));
    expect(found).toEqual([]);
  });
});
