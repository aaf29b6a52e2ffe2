import { mkdir, readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryName } from '#core/atomic-file.ts';
import { orUndefined } from '#core/errors.ts';

/**
 * Short names for the folders of layers, `<root>/l/XX`: mount(2) takes one page of options, in which the paths of 128 layers have to fit. XX is the
 * snapshot's number to the base 36. A link is made when it is first needed, and costs nothing to lose.
 */
export class ShortLinks {
  readonly #folder: string;
  readonly #targets = new Map<number, string>();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** `folder` is made where it is missing; links of snapshots that `isKnown` does not know are removed. */
  static async open(folder: string, isKnown: (id: number) => boolean): Promise<ShortLinks> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(folder)) {
      if (!isKnown(Number.parseInt(name, 36))) await rm(join(folder, name), { force: true });
    }
    return new ShortLinks(folder);
  }

  /** The short path of what lies at `target`, for the snapshot `id`. */
  async to(id: number, target: string): Promise<string> {
    const link = join(this.#folder, id.toString(36));
    if (this.#targets.get(id) === target) return link;
    if ((await orUndefined(readlink(link), 'ENOENT')) !== target) {
      const temporary = join(this.#folder, temporaryName());
      await symlink(target, temporary);
      await rename(temporary, link);
    }
    this.#targets.set(id, target);
    return link;
  }

  async remove(id: number): Promise<void> {
    this.#targets.delete(id);
    await rm(join(this.#folder, id.toString(36)), { force: true });
  }
}
