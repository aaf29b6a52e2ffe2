import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '#core/errors.ts';
import { removeFolder, unmountTree } from './mount.ts';
import { PROBES, type ProbeName } from './probe-features.ts';

export type { ProbeName } from './probe-features.ts';

/** What trying gave. `detail`: how it works here, or why not. */
export interface Finding {
  readonly works: boolean;
  readonly detail: string;
}

/** A folder for one trial; everything mounted in it is unmounted and it is deleted when it is disposed. */
async function scratchFolder(root: string): Promise<AsyncDisposable & { path: string }> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  const path = await mkdtemp(join(root, '.tmp-probe-'));
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      await unmountTree(path, { detach: true });
      await removeFolder(path);
    },
  };
}

/** Tries one feature of the kernel or of the filesystem that `root` (made where it is missing) lies on. Never throws for a feature that is missing. */
export async function probe(name: ProbeName, root: string): Promise<Finding> {
  await using scratch = await scratchFolder(root);
  try {
    return { works: true, detail: await PROBES[name](scratch.path) };
  } catch (error) {
    return { works: false, detail: messageOf(error) };
  }
}

/** Tries all features, one after the other. */
export async function probeAll(root: string): Promise<Record<ProbeName, Finding>> {
  const findings: Partial<Record<ProbeName, Finding>> = {};
  for (const name of Object.keys(PROBES) as ProbeName[]) findings[name] = await probe(name, root);
  return findings as Record<ProbeName, Finding>;
}

/**
 * What an index should be compiled to on this node: an EROFS image where the kernel mounts one, in whatever way, else a plain directory; the whole
 * tree by the object filesystem where overlayfs has no data-only layers.
 */
export async function bestIndexFormat(root: string): Promise<'erofs' | 'directory' | 'tree'> {
  if (!(await probe('data-layers', root)).works) return 'tree';
  if ((await probe('erofs-file', root)).works || (await probe('erofs-loop', root)).works) return 'erofs';
  return 'directory';
}
