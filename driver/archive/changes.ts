import type { Abortable } from '#core/abort.ts';
import { GearError, isErrno } from '#core/errors.ts';
import type { ByteString } from '#core/index/tree.ts';
import { lgetxattr } from '../kernel/xattr.ts';
import { CHANGE_ADDED, CHANGE_DELETED, CHANGE_MODIFIED, type Change, type ChangeKind } from './change.ts';
import { bytesOfPath, type FileStatus, FORMAT, isDirectory, namesIn, statusOfPath, toPath } from './file-status.ts';
import { Pacer } from './pacer.ts';

export interface ChangesOptions extends Abortable {
  /**
   * The overlay upper directory of a layer whose merged mount is `newRoot`: only what lies there is looked at. What was copied up and is no directory is
   * modified then, as Docker's overlay2 has it, also where its status is the old one's: its contents or xattrs may differ all the same.
   */
  readonly guide?: string | undefined;
}

/**
 * What distinguishes the tree at `newRoot` from the one at `oldRoot` (undefined: an empty one), sorted by the bytes of the paths. The rules are
 * those of Docker's archive.ChangesDirs (pkg/archive/changes.go, 20.10): type, mode, owner, device number and `security.capability`; of what is
 * no directory also size and time; a directory in which something changed is modified; of what is deleted only the top is named.
 */
export async function changes(
  newRoot: string,
  oldRoot: string | undefined,
  { guide, signal }: ChangesOptions = {},
): Promise<Change[]> {
  for (const root of oldRoot === undefined ? [newRoot] : [newRoot, oldRoot]) {
    if (!isDirectory(statusOfPath(toPath(bytesOfPath(root))))) {
      throw new GearError('not-found', `${root} is not a directory, so its changes cannot be told`);
    }
  }
  const comparison = new Comparison(newRoot, oldRoot, new Pacer({ signal }));
  await comparison.directory('', oldRoot !== undefined, guide === undefined ? undefined : bytesOfPath(guide));
  return comparison.found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

/** Docker's test for a directory (a bit test), which block devices and sockets pass too; they have nothing below them. */
function passesForDirectory(status: FileStatus): boolean {
  return (status.mode & FORMAT.directory) !== 0;
}

/** Tars hold whole seconds, so no nanoseconds on one side means any on the other. */
function sameTime(a: FileStatus, b: FileStatus): boolean {
  return (
    a.mtimeSeconds === b.mtimeSeconds &&
    (a.mtimeNanoseconds === b.mtimeNanoseconds || a.mtimeNanoseconds === 0 || b.mtimeNanoseconds === 0)
  );
}

function statusDiffers(older: FileStatus, newer: FileStatus): boolean {
  if (older.mode !== newer.mode || older.uid !== newer.uid || older.gid !== newer.gid) return true;
  if (older.device !== newer.device) return true;
  return !passesForDirectory(older) && (!sameTime(older, newer) || older.size !== newer.size);
}

const NONE = Buffer.alloc(0);

/** No capability and an empty one are the same, as they are to Docker. */
function capabilityOf(path: Buffer): Buffer {
  try {
    return lgetxattr(path, 'security.capability') ?? NONE;
  } catch (error) {
    if (isErrno(error, 'ENOTSUP', 'ENOENT')) return NONE;
    throw error;
  }
}

/** The tree may be a running container's: what goes away meanwhile is not there. */
function namesOrNone(path: ByteString): ByteString[] {
  try {
    return namesIn(toPath(path));
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}

/**
 * Whether the directory of an overlay upper is all that shows there (opaque), or stands for one of another name (redirect): then the
 * names in it do not tell what changed.
 */
function guidesNothing(path: ByteString): boolean {
  const opaque = lgetxattr(toPath(path), 'trusted.overlay.opaque');
  return opaque?.toString() === 'y' || lgetxattr(toPath(path), 'trusted.overlay.redirect') !== undefined;
}

class Comparison {
  readonly found: Change[] = [];
  readonly #new: ByteString;
  readonly #old: ByteString;
  readonly #pacer: Pacer;

  constructor(newRoot: string, oldRoot: string | undefined, pacer: Pacer) {
    this.#new = bytesOfPath(newRoot);
    this.#old = bytesOfPath(oldRoot ?? '');
    this.#pacer = pacer;
  }

  /**
   * Compares what is in a directory of the new tree with the old one's, if that has a directory there too. `guide` is the same directory
   * in the upper, unless all names have to be looked at. Gives whether there was a change.
   */
  async directory(path: ByteString, oldToo: boolean, guide: ByteString | undefined): Promise<boolean> {
    const upper = guide === undefined || guidesNothing(guide) ? undefined : guide;
    const names = new Set(namesOrNone(upper ?? this.#new + path));
    if (upper === undefined && oldToo) for (const name of namesOrNone(this.#old + path)) names.add(name);
    let changed = false;
    for (const name of names) {
      if (this.#pacer.due) await this.#pacer.rest();
      const child = `${path}/${name}`;
      const guided = upper === undefined ? undefined : `${upper}/${name}`;
      if (await this.#name(child, oldToo, guided)) changed = true;
    }
    return changed;
  }

  async #name(path: ByteString, oldToo: boolean, guide: ByteString | undefined): Promise<boolean> {
    const newer = statusOfPath(toPath(this.#new + path));
    const older = oldToo ? statusOfPath(toPath(this.#old + path)) : undefined;
    if (newer === undefined) return older !== undefined && this.#add(path, CHANGE_DELETED);
    // One inode on both sides: a bind mount or the like.
    if (older !== undefined && older.inode === newer.inode) return false;
    let changed = false;
    if (older === undefined) changed = this.#add(path, CHANGE_ADDED);
    else if (statusDiffers(older, newer) || this.#capabilityDiffers(path)) changed = this.#add(path, CHANGE_MODIFIED);
    else if (guide !== undefined && !isDirectory(newer)) changed = this.#add(path, CHANGE_MODIFIED);
    if (isDirectory(newer)) {
      const guideHere = guide !== undefined && isDirectory(statusOfPath(toPath(guide))) ? guide : undefined;
      const below = await this.directory(path, isDirectory(older), guideHere);
      return changed || (below && this.#add(path, CHANGE_MODIFIED));
    }
    // Docker's bit test again: a directory that became a socket or block device lost its children one by one.
    if (passesForDirectory(newer) && isDirectory(older)) {
      for (const name of namesOrNone(this.#old + path)) this.#add(`${path}/${name}`, CHANGE_DELETED);
    }
    return changed;
  }

  #capabilityDiffers(path: ByteString): boolean {
    return !capabilityOf(toPath(this.#new + path)).equals(capabilityOf(toPath(this.#old + path)));
  }

  #add(path: ByteString, kind: ChangeKind): true {
    this.found.push({ path, kind });
    return true;
  }
}
