import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { execa } from 'execa';
import { cached } from '../images/cache.ts';
import { projectRoot } from './gear.ts';

/** A manifest, as far as the tests look into it. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  // biome-ignore lint/suspicious/noExplicitAny: whatever a manifest says
  readonly spec: any;
}

/** Kubernetes' schemas and types, as an npm package has them. */
export interface Kubernetes {
  readYaml(text: string): Manifest[];
  /** What the schema of its kind says against a manifest; '' for nothing. */
  problemOf(manifest: Manifest): Promise<string>;
  /** What the types say against manifests: fields that there are not, too. '' for nothing. */
  typeProblems(manifests: readonly Manifest[]): Promise<string>;
}

/** The module that has the kinds of an apiVersion. */
const moduleOf = (apiVersion: string): string => `kubernetes-models/${apiVersion}`;

/** Installs the package into the tests' cache where it is not there yet. */
export async function kubernetes(): Promise<Kubernetes> {
  const source = join(projectRoot, 'test/kubernetes');
  const lock = await readFile(join(source, 'package-lock.json'));
  const version = createHash('sha256').update(lock).digest('hex').slice(0, 8);
  const folder = await cached(`kubernetes-models-${version}`, async (path) => {
    await mkdir(path);
    for (const name of ['package.json', 'package-lock.json']) await copyFile(join(source, name), join(path, name));
    await execa('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: path, stdin: 'ignore' });
  });
  const require = createRequire(join(folder, 'package.json'));
  const load = async (name: string) => await import(pathToFileURL(resolveModule(require, folder, name)).href);
  const yaml = await load('yaml');
  return {
    readYaml: (text) =>
      yaml.parseAllDocuments(text).map((document: { toJS(): Manifest; errors: Error[] }) => {
        if (document.errors[0] !== undefined) throw document.errors[0];
        return document.toJS();
      }),
    problemOf: async (manifest) => {
      const kinds = await load(moduleOf(manifest.apiVersion));
      try {
        new kinds[manifest.kind](manifest).validate();
        return '';
      } catch (error) {
        return (error as Error).message;
      }
    },
    typeProblems: async (manifests) => await typeProblems(folder, manifests),
  };
}

function resolveModule(require: NodeJS.Require, folder: string, name: string): string {
  try {
    return require.resolve(name);
  } catch {
    return join(folder, 'node_modules', name, 'index.js');
  }
}

async function typeProblems(folder: string, manifests: readonly Manifest[]): Promise<string> {
  const place = await mkdtemp(join(folder, 'check-'));
  try {
    const lines = manifests.map(({ apiVersion, kind }, at) => {
      const type = `import('${moduleOf(apiVersion)}').I${kind}`;
      return `export const manifest${at}: ${type} = ${JSON.stringify(manifests[at], undefined, 2)};\n`;
    });
    const file = join(place, 'manifests.mts');
    await writeFile(file, lines.join('\n'));
    const { stdout } = await execa(
      join(projectRoot, 'node_modules/.bin/tsc'),
      [
        '--ignoreConfig',
        '--noEmit',
        '--strict',
        '--skipLibCheck',
        '--target',
        'esnext',
        '--module',
        'nodenext',
        '--types',
        '',
        file,
      ],
      { reject: false, stdin: 'ignore' },
    );
    return stdout;
  } finally {
    await rm(place, { recursive: true });
  }
}
