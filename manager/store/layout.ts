import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type Digest, objectPath } from '#core/digest.ts';
import { GearError, messageOf } from '#core/errors.ts';
import { spreadFoldersIn } from './spread.ts';

/**
 * The manager's root:
 *
 *     objects/aa/bbbb...    an object, by its sha256; mode 0555; raw, so that NFS can export the folder
 *     indexes/aa/bbbb...    an encoded index, by its sha256; mode 0444
 *     images/<id>.json      the record of an image
 *     profiles/<image>.json, .pack   the start-up profile of an image, and its content prepared for sending
 *     tmp/                  what is not final yet; emptied at every start
 *     scratch/              room for conversions; emptied at every start
 *     catalog.sqlite        a cache of what images/ and indexes/ say
 *     addresses.json        where the running manager listens
 *     lock                  held by the running manager
 */
export class Layout {
  readonly root: string;
  readonly objects: string;
  readonly indexes: string;
  readonly images: string;
  readonly profiles: string;
  readonly tmp: string;
  readonly scratch: string;
  readonly catalog: string;
  readonly addresses: string;
  readonly lock: string;
  /** Folders that are known to be there. */
  readonly #made = new Set<string>();

  constructor(root: string) {
    this.root = root;
    this.objects = join(root, 'objects');
    this.indexes = join(root, 'indexes');
    this.images = join(root, 'images');
    this.profiles = join(root, 'profiles');
    this.tmp = join(root, 'tmp');
    this.scratch = join(root, 'scratch');
    this.catalog = join(root, 'catalog.sqlite');
    this.addresses = join(root, 'addresses.json');
    this.lock = join(root, 'lock');
  }

  object(digest: Digest): string {
    return `${this.objects}/${objectPath(digest)}`;
  }

  index(digest: Digest): string {
    return `${this.indexes}/${objectPath(digest)}`;
  }

  /** The names of the folders "aa" that are there, in order. */
  foldersOf(parent: string): string[] {
    return readdirSync(parent)
      .filter((name) => /^[0-9a-f]{2}$/.test(name))
      .sort();
  }

  /** Renames a finished file into place (a path that `object` or `index` gave). Gives the folders that changed by it. */
  place(temporary: string, path: string): string[] {
    const folder = dirname(path);
    if (this.#made.has(folder)) {
      renameSync(temporary, path);
      return [folder];
    }
    mkdirSync(folder, { recursive: true });
    renameSync(temporary, path);
    this.#made.add(folder);
    return [folder, dirname(folder)];
  }

  /** Makes the root where it is missing. Throws failed-precondition where that cannot be, or where it cannot be written. */
  makeRoot(): void {
    try {
      makeFolders(this.root);
      accessSync(this.root, constants.R_OK | constants.W_OK | constants.X_OK);
      if (!statSync(this.root).isDirectory()) throw new Error('it is no folder');
    } catch (error) {
      throw new GearError(
        'failed-precondition',
        `cannot work in ${this.root}: ${messageOf(error)}; give another --root`,
        {
          cause: error,
        },
      );
    }
  }

  /**
   * Makes the folders and empties those for temporary files. Gives by how many milliseconds the filesystem may round times down. Throws
   * failed-precondition where files could not be renamed into place.
   */
  prepare(): { timeStep: number } {
    rmSync(this.tmp, { recursive: true, force: true });
    rmSync(this.scratch, { recursive: true, force: true });
    rmSync(this.addresses, { force: true });
    for (const folder of [this.objects, this.indexes, this.images, this.tmp, this.scratch]) {
      mkdirSync(folder, { recursive: true });
    }
    // A batch of objects is written into a folder of its own there.
    spreadFoldersIn(this.tmp);
    for (const parent of [this.objects, this.indexes]) {
      if (statSync(parent).dev !== statSync(this.tmp).dev) {
        throw new GearError(
          'failed-precondition',
          `${parent} and ${this.tmp} lie on different filesystems; mount one filesystem at ${this.root} instead`,
        );
      }
    }
    const odd = 1_234_567_891.999;
    utimesSync(this.tmp, odd, odd);
    // Some filesystems keep whole seconds, or even.
    const isExact = Math.abs(statSync(this.tmp).mtimeMs - odd * 1000) < 1;
    return { timeStep: isExact ? 1 : 2000 };
  }
}

// mkdir with `recursive` tries for ever where the kernel refuses a folder with ENOENT, as /proc does.
function makeFolders(path: string): void {
  if (existsSync(path)) return;
  makeFolders(dirname(path));
  mkdirSync(path);
}
