import { GearError } from '../errors.ts';
import { showPath } from '../tar/path.ts';
import { rememberOrigin } from './link-origin.ts';
import { type ByteString, type Directory, emptyDirectory, type Inode, type Metadata, type RealInode } from './tree.ts';
import { NO_XATTRS } from './xattrs.ts';

type Path = readonly ByteString[];
/** What several names may share. */
type Linkable = Exclude<RealInode, Directory>;

/**
 * Finds out which inode the hard links of one layer mean. A link to an earlier entry means what that name is at that moment, as link(2) does. Any
 * other link waits for the layer's end, held by a stand-in, and then means a later entry, or else a name of the layers below.
 */
export class HardLinks {
  readonly #root: Directory;
  readonly #lower: Directory | undefined;
  readonly #waiting: { path: Path; standIn: Inode }[] = [];
  readonly #targets = new Map<Inode, { path: Path; target: Path }>();
  readonly #resolved = new Map<Inode, Linkable>();
  /** From an inode below to this layer's own inode for it: links to one inode stay links of each other. */
  readonly #copies = new Map<Linkable, Linkable>();

  constructor(root: Directory, lower: Directory | undefined) {
    this.#root = root;
    this.#lower = lower;
  }

  /** What to put at `path`. */
  link(path: Path, target: Path, metadata: Metadata): Inode {
    const found = find(this.#root, target);
    if (found === undefined || found.type === 'whiteout') {
      const standIn: Inode = { type: 'fifo', ...emptyMetadata() };
      this.#targets.set(standIn, { path, target });
      this.#waiting.push({ path, standIn });
      return standIn;
    }
    if (found.type === 'directory') throw refused(path, target, 'which is a directory');
    if (this.#targets.has(found)) this.#waiting.push({ path, standIn: found });
    else applyLinkMetadata(found, metadata);
    return found;
  }

  /** Puts the real inodes where stand-ins still are. Throws invalid-argument where a link leads nowhere. */
  resolve(): void {
    for (const { path, standIn } of this.#waiting) {
      const parent = find(this.#root, path.slice(0, -1));
      const name = path.at(-1) as ByteString;
      // A later entry may have replaced the link, or a directory above it.
      if (parent?.type !== 'directory' || parent.children.get(name) !== standIn) continue;
      parent.children.set(name, this.#resolve(standIn));
    }
  }

  #resolve(standIn: Inode): Linkable {
    const seen = new Set<Inode>();
    let inode = standIn;
    for (;;) {
      const known = this.#resolved.get(inode);
      const waiting = this.#targets.get(inode);
      if (known !== undefined || waiting === undefined) {
        const found = known ?? (inode as Linkable);
        for (const each of seen) this.#resolved.set(each, found);
        return found;
      }
      const { path, target } = waiting;
      if (seen.has(inode)) throw refused(path, target, 'and round in a circle');
      seen.add(inode);
      const found = find(this.#root, target);
      if (found === undefined || found.type === 'whiteout' || found === inode) inode = this.#below(path, target);
      else if (found.type === 'directory') throw refused(path, target, 'which is a directory');
      else inode = found;
    }
  }

  /** This layer's own inode for a name of the layers below. */
  #below(path: Path, target: Path): Linkable {
    const found = this.#lower === undefined ? undefined : find(this.#lower, target);
    if (found === undefined || found.type === 'whiteout') {
      throw refused(path, target, 'which is neither in this layer nor below it');
    }
    if (found.type === 'directory') throw refused(path, target, 'which is a directory');
    const known = this.#copies.get(found);
    if (known !== undefined) return known;
    const own = { ...found };
    this.#copies.set(found, own);
    rememberOrigin(own, found);
    return own;
  }
}

/**
 * A hard link's header repeats its inode's metadata; where it says something else, it wins, since Docker sets owner, attributes, mode and time
 * through the new name too (moby 20.10 pkg/archive, createTarFile; a symlink gets the owner only). Its chown takes file capabilities
 * away, so that they must be in the link's header as well.
 */
function applyLinkMetadata(inode: Linkable, metadata: Metadata): void {
  inode.uid = metadata.uid;
  inode.gid = metadata.gid;
  if (inode.xattrs.has('security.capability') || metadata.xattrs.size > 0) {
    const xattrs = new Map(inode.xattrs);
    xattrs.delete('security.capability');
    for (const [name, value] of metadata.xattrs) xattrs.set(name, value);
    inode.xattrs = xattrs;
  }
  if (inode.type === 'symlink') return;
  inode.mode = metadata.mode;
  inode.mtimeSeconds = metadata.mtimeSeconds;
  inode.mtimeNanoseconds = metadata.mtimeNanoseconds;
}

/** What is at `path`; undefined where nothing is, or where the way leads through something that is no directory. */
function find(root: Directory, path: Path): Inode | undefined {
  let inode: Inode | undefined = root;
  for (const name of path) {
    if (inode?.type !== 'directory') return undefined;
    inode = inode.children.get(name);
  }
  return inode;
}

function emptyMetadata(): Metadata {
  const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds } = emptyDirectory(0);
  return { mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs: NO_XATTRS };
}

function refused(path: Path, target: Path, why: string): GearError {
  const [from, to] = [showPath(path.join('/')), showPath(target.join('/'))];
  return new GearError('invalid-argument', `the hard link ${from} leads to ${to}, ${why}`);
}
