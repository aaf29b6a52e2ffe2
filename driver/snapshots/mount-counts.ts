import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '#core/errors.ts';

const FILE = 'mounts.json';

/** A name of this boot: what an earlier boot had mounted is not mounted any more. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/**
 * How many users a layer's mount has. Kept beside the layer, because the mounts outlive the driver: after a restart the engine goes on putting back what
 * it got before. Files are small and rewritten in place; one that cannot be read counts as what the mount table says.
 */
export class MountCounts {
  readonly #boot = bootId();

  /** `mounted` is what the mount table says. */
  get(layerFolder: string, mounted: boolean): number {
    if (!mounted) return 0;
    try {
      const { boot, count } = JSON.parse(readFileSync(join(layerFolder, FILE), 'utf8')) as {
        boot: string;
        count: number;
      };
      return boot === this.#boot && Number.isInteger(count) && count > 0 ? count : 1;
    } catch (error) {
      if (isErrno(error, 'ENOENT') || error instanceof SyntaxError) return 1;
      throw error;
    }
  }

  set(layerFolder: string, count: number): void {
    const file = join(layerFolder, FILE);
    if (count === 0) rmSync(file, { force: true });
    else writeFileSync(file, JSON.stringify({ boot: this.#boot, count }));
  }
}
