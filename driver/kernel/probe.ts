import { mkdir, mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GearError, messageOf } from '#core/errors.ts';
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

/** How the kernel is asked for overlayfs; tests ask another one. */
export interface OverlayQuestions {
  /** The text of /proc/filesystems. */
  readonly filesystems?: () => Promise<string>;
  readonly tryOverlay?: (root: string) => Promise<Finding>;
}

/** Throws failed-precondition where the kernel has no overlayfs at all: no layer could be mounted, however an index is compiled. */
export async function expectOverlay(
  root: string,
  {
    filesystems = () => readFile('/proc/filesystems', 'utf8'),
    tryOverlay = (folder) => probe('overlay', folder),
  }: OverlayQuestions = {},
): Promise<void> {
  const isListed = async () => /^nodev\toverlay$/m.test(await filesystems());
  if (await isListed()) return;
  // The kernel loads the module for the first mount, where it has one.
  const { works, detail } = await tryOverlay(root);
  if (await isListed()) return;
  throw new GearError(
    'failed-precondition',
    `this kernel has no overlayfs (${works ? 'not in /proc/filesystems' : detail}), so no container can be started: run a kernel with CONFIG_OVERLAY_FS (modprobe overlay)`,
  );
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
