import { accessSync, constants, existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VERSION } from '#core/version.ts';
import type { NodePaths } from '../paths.ts';
import { type Role, startProcess, WARM } from './processes.ts';

/** Beside the Node that the launcher installed, where that can be written; else with the node's state. */
export function compileCacheFolder(paths: NodePaths): string {
  const toolchain = fileURLToPath(new URL('../../.node', import.meta.url));
  try {
    accessSync(toolchain, constants.W_OK);
    return join(toolchain, 'compile-cache', VERSION);
  } catch {
    return join(paths.run, 'compile-cache', VERSION);
  }
}

/**
 * Lets Node compile the code of both processes once and keep the result. They stay for as long as the node does, and a process that compiles its
 * TypeScript itself has the compiler in its memory from then on (20 MB each). It is only about memory: failing does not matter.
 */
export async function warmCompileCache(paths: NodePaths): Promise<void> {
  const compileCache = compileCacheFolder(paths);
  if (existsSync(compileCache)) return;
  const warm = (role: Role) =>
    new Promise<void>((resolve) => {
      startProcess(role, { args: [WARM], log: 'inherit', compileCache })
        .once('exit', () => resolve())
        .once('error', () => resolve())
        .ref();
    });
  await Promise.all([warm('supervisor'), warm('server')]);
}
