import { GearError } from '../errors.ts';
import { overLimit } from '../tar/limits.ts';
import { showPath, WHITEOUT_PREFIX, whiteoutTarget } from '../tar/path.ts';
import { HardLinks } from './hard-links.ts';
import type { IndexLimits } from './limits.ts';
import { type ByteString, type Directory, emptyDirectory, type Inode, type Metadata, type Tree } from './tree.ts';

/** The tree of one layer while its tar is read: what extracting the tar into an empty directory, entry by entry, would make. */
export class LayerBuilder {
  readonly #limits: IndexLimits;
  readonly #root: Directory = { ...emptyDirectory(), implied: true };
  readonly #links: HardLinks;
  /** Names that aufs keeps for itself: hard links may name them, but they are not part of the tree. */
  readonly #internals: { directory: Directory; name: ByteString }[] = [];
  #names = 1;

  constructor(limits: IndexLimits, lower: Tree | undefined) {
    this.#limits = limits;
    this.#links = new HardLinks(this.#root, lower?.root);
  }

  /** The directory that holds the last of `components`, made with its parents where the tar did not bring them. */
  parentOf(components: readonly ByteString[]): Directory {
    let directory = this.#root;
    for (let depth = 0; depth < components.length - 1; depth++) {
      const name = components[depth] as ByteString;
      const child = directory.children.get(name);
      if (child?.type === 'directory') directory = child;
      else if (child === undefined || child.type === 'whiteout') {
        if (name.startsWith(WHITEOUT_PREFIX)) checkMarkerAsDirectory(components, name);
        const made: Directory = { ...emptyDirectory(), implied: true };
        this.#set(directory, name, made);
        directory = made;
      } else {
        const [what, where] = [child.type, showPath(components.slice(0, depth + 1).join('/'))];
        const path = showPath(components.join('/'));
        throw new GearError(
          'invalid-argument',
          `the entry ${path} has a ${what} in the way: ${where}, of the same layer`,
        );
      }
    }
    return directory;
  }

  /** Sets the metadata of a directory, which keeps what it has; a file in its place goes. The root has no components. */
  directory(components: readonly ByteString[], metadata: Metadata): void {
    const name = components.at(-1);
    if (name === undefined) {
      Object.assign(this.#root, metadata, { implied: undefined });
      return;
    }
    const parent = this.parentOf(components);
    const existing = parent.children.get(name);
    if (existing?.type === 'directory') Object.assign(existing, metadata, { implied: undefined });
    else this.#set(parent, name, { type: 'directory', ...metadata, children: new Map(), opaque: false });
  }

  /** Puts something else than a directory in its place; what was there before goes, with all that was in it. */
  place(components: readonly ByteString[], inode: Inode): void {
    this.#set(this.parentOf(components), nameOf(components), inode);
  }

  /** Another name for what `target` names or will name, in this layer or below. */
  hardLink(components: readonly ByteString[], target: readonly ByteString[], metadata: Metadata): void {
    const parent = this.parentOf(components);
    this.#set(parent, nameOf(components), this.#links.link(components, target, metadata));
  }

  /** Deletes a name from the layers below, unless this layer has it: then that wins, whichever comes first. */
  whiteout(components: readonly ByteString[]): void {
    const parent = this.parentOf(components);
    const name = nameOf(components);
    if (!parent.children.has(name)) this.#set(parent, name, { type: 'whiteout' });
  }

  /** Hides what the layers below have in the directory that holds the last of `components`. */
  opaque(components: readonly ByteString[]): void {
    this.parentOf(components).opaque = true;
  }

  /** The tree. Throws invalid-argument where a hard link leads nowhere. */
  finish(chunkSize: number): Tree {
    this.#links.resolve();
    for (const { directory, name } of this.#internals) directory.children.delete(name);
    return { kind: 'layer', chunkSize, root: this.#root };
  }

  #set(directory: Directory, name: ByteString, inode: Inode): void {
    if (!directory.children.has(name)) {
      if (++this.#names > this.#limits.entries) {
        throw overLimit('entries', this.#limits.entries, `${showPath(name)} is one name too many in a layer`);
      }
      if (name.startsWith(WHITEOUT_PREFIX)) this.#internals.push({ directory, name });
    }
    directory.children.set(name, inode);
  }
}

/** Only aufs's own folders may have a marker's name; they are dropped at the end. */
function checkMarkerAsDirectory(components: readonly ByteString[], name: ByteString): void {
  if (whiteoutTarget(name)?.kind === 'internal') return;
  const path = showPath(components.join('/'));
  throw new GearError('invalid-argument', `the entry ${path} lies below the whiteout ${showPath(name)}`);
}

function nameOf(components: readonly ByteString[]): ByteString {
  const name = components.at(-1);
  if (name === undefined) throw new GearError('invalid-argument', 'the root of a layer must be a directory');
  return name;
}
