import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type TemporaryFolder, temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import type { Outcome } from '../../deploy/sandbox/docker.ts';
import { gear, startManager, type TestManager } from '../../deploy/sandbox/gear.ts';
import { type Registry, type RegistryOptions, startRegistry } from '../../deploy/sandbox/registry.ts';

/** The last line of `gear convert --json`. */
export interface Converted {
  readonly unchanged: boolean;
  readonly seconds: number;
  readonly source: string;
  readonly destination: string;
  readonly platform: string;
  readonly sourceDigest: string;
  readonly gearDigest: string | null;
  readonly indexDigest: string;
  readonly entries: number;
  readonly objects: number;
  readonly layers: readonly { readonly diffId: string; readonly indexDigest: string }[];
  readonly warnings: readonly string[];
  /** Progress lines before it. */
  readonly progress: readonly { readonly phase: string; readonly newObjects: number }[];
}

/** A registry, a manager that knows it, and a folder for the test's files and for conversions' scratch. */
export interface ConvertBench extends AsyncDisposable {
  readonly registry: Registry;
  readonly manager: TestManager;
  readonly folder: string;
  /** Runs `gear convert` or `gear export` against this manager. */
  run(command: 'convert' | 'export', ...args: readonly string[]): Promise<Outcome>;
  /** Converts; throws when that fails. */
  convert(...args: readonly string[]): Promise<Converted>;
  /** What conversions left in their scratch folders: the command's and the manager's. */
  leftovers(): Promise<string[]>;
}

export async function startConvertBench(options: RegistryOptions = {}): Promise<ConvertBench> {
  await using stack = new AsyncDisposableStack();
  const temporary: TemporaryFolder = stack.use(await temporaryFolder());
  const registry = stack.use(await startRegistry(options));
  const manager = stack.use(await startManager({ insecureRegistries: [registry.host] }));
  const scratch = join(temporary.path, 'scratch');
  await mkdir(scratch);
  const owned = stack.move();
  const run = async (command: 'convert' | 'export', ...args: readonly string[]) =>
    await gear([
      command,
      '--manager',
      manager.address,
      '--scratch',
      scratch,
      '--insecure-registry',
      registry.host,
      ...args,
    ]);
  return {
    registry,
    manager,
    folder: temporary.path,
    run,
    convert: async (...args) => {
      const { exitCode, stdout, stderr } = await run('convert', '--json', ...args);
      if (exitCode !== 0) throw new Error(`gear convert ${args.join(' ')}: exit code ${exitCode}\n${stderr}`);
      const lines = stdout.split('\n').map((line) => JSON.parse(line));
      return { ...lines.at(-1), progress: lines.slice(0, -1) };
    },
    leftovers: async () => [...(await readdir(scratch)), ...(await readdir(join(manager.root, 'scratch')))],
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
