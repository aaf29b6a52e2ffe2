import { BinaryReader } from '@bufbuild/protobuf/wire';
import { Entry, EntryType } from '#proto/gen/gear/v1/index.ts';
import { GearError, isGearError } from '../errors.ts';
import { showPath } from '../tar/path.ts';
import { inodeOf, strayField } from './decode-entry.ts';
import { DEFAULT_INDEX_LIMITS, type IndexLimits } from './limits.ts';
import type { ByteString, Directory, Inode, Tree } from './tree.ts';
import { checkChunkSize, checkInode, checkName, ObjectRules, refuseReading as refuse } from './validate.ts';
import { INDEX_VERSION, kindOf } from './wire.ts';

const TAG = { version: (1 << 3) | 0, chunkSize: (2 << 3) | 0, kind: (3 << 3) | 0, entries: (4 << 3) | 2 } as const;

/**
 * The tree that encodeIndex was given. Nothing in the bytes is trusted: every rule of index.proto and of the limits is checked.
 * Throws corrupt, naming the rule that is broken; unsupported for another version.
 */
export function decodeIndex(bytes: Uint8Array, limits?: Partial<IndexLimits>): Tree {
  const decoder = new IndexDecoder({ ...DEFAULT_INDEX_LIMITS, ...limits });
  try {
    return decoder.decode(new BinaryReader(bytes));
  } catch (error) {
    if (isGearError(error)) throw error;
    throw new GearError('corrupt', 'the index is not valid: it is no message of its type', { cause: error });
  }
}

interface OpenDirectory {
  readonly position: number;
  readonly directory: Directory;
  readonly pathBytes: number;
  lastName: ByteString;
}

class IndexDecoder {
  readonly #limits: IndexLimits;
  readonly #head = { version: 0, chunkSize: 0, kind: 0 };
  #tree: Tree | undefined;
  /** The directories from the root to where the next entry may go. */
  readonly #open: OpenDirectory[] = [];
  /** By position: inodes that a hard link may name. */
  readonly #linkable: (Inode | undefined)[] = [];
  readonly #objects: ObjectRules;

  constructor(limits: IndexLimits) {
    this.#limits = limits;
    this.#objects = new ObjectRules(limits, refuse);
  }

  decode(reader: BinaryReader): Tree {
    // Entry by entry, so that there are never as many messages as entries.
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag === TAG.entries) {
        this.#add(readEntry(reader));
      } else if (tag === TAG.version) this.#setHead('version', reader.uint32());
      else if (tag === TAG.chunkSize) this.#setHead('chunkSize', reader.uint32());
      else if (tag === TAG.kind) this.#setHead('kind', reader.int32());
      else reader.skip(tag & 7);
    }
    if (this.#tree === undefined) throw refuse('it has no root directory');
    return this.#tree;
  }

  #setHead(field: 'version' | 'chunkSize' | 'kind', value: number): void {
    if (this.#tree !== undefined) throw refuse(`its ${field} comes after its entries`);
    this.#head[field] = value;
  }

  #add(entry: Entry): void {
    const position = this.#linkable.length;
    if (position >= this.#limits.entries) throw refuse(`it has more than ${this.#limits.entries} entries`);
    const name = entry.name.toString('latin1');
    const stray = strayField(entry);
    if (stray !== undefined) throw refuse(`${showPath(name)} has ${stray}, which its type has not`);
    this.#linkable.push(undefined);
    if (this.#tree === undefined) this.#addRoot(entry, name);
    else this.#addBelow(this.#tree, entry, name, position);
  }

  #addRoot(entry: Entry, name: ByteString): void {
    const { version, chunkSize } = this.#head;
    if (version !== INDEX_VERSION) {
      throw new GearError(
        'unsupported',
        `the index has version ${version}, this program reads version ${INDEX_VERSION}`,
      );
    }
    checkChunkSize(chunkSize, refuse);
    const kind = kindOf(this.#head.kind);
    if (kind === undefined) throw refuse(`its kind is ${this.#head.kind}`);
    const root = entry.type === EntryType.ENTRY_TYPE_DIRECTORY ? inodeOf(entry) : undefined;
    if (root?.type !== 'directory' || name !== '' || entry.parent !== 0) {
      throw refuse('its first entry is not the root directory');
    }
    this.#tree = { kind, chunkSize, root };
    checkInode(root, name, this.#tree, this.#limits, refuse);
    this.#open.push({ position: 0, directory: root, pathBytes: 0, lastName: '' });
  }

  #addBelow(tree: Tree, entry: Entry, name: ByteString, position: number): void {
    const parent = this.#parentOf(entry, name);
    const depth = this.#open.length - 1;
    if (depth > this.#limits.depth) throw refuse(`it nests deeper than ${this.#limits.depth} directories`);
    checkName(name, this.#limits, refuse);
    if (name <= parent.lastName) {
      throw refuse(`${showPath(name)} comes after ${showPath(parent.lastName)}: names are not in order, or double`);
    }
    parent.lastName = name;
    const pathBytes = parent.pathBytes + (parent.pathBytes === 0 ? 0 : 1) + name.length;
    if (pathBytes > this.#limits.pathBytes) throw refuse(`a path has more than ${this.#limits.pathBytes} bytes`);
    const inode = this.#inode(tree, entry, name, position);
    parent.directory.children.set(name, inode);
    if (inode.type !== 'directory') return;
    this.#open.push({ position, directory: inode, pathBytes, lastName: '' });
  }

  /** Depth-first order: the parent is a directory that is still open, and those below it are closed now. */
  #parentOf(entry: Entry, name: ByteString): OpenDirectory {
    while (this.#open.length > 0) {
      const last = this.#open.at(-1) as OpenDirectory;
      if (last.position === entry.parent) return last;
      this.#open.pop();
    }
    throw refuse(`the parent of ${showPath(name)} is entry ${entry.parent}, which is no directory on the way to it`);
  }

  #inode(tree: Tree, entry: Entry, name: ByteString, position: number): Inode {
    if (entry.type === EntryType.ENTRY_TYPE_HARD_LINK) {
      const inode = this.#linkable[entry.link];
      if (inode === undefined) {
        throw refuse(
          `${showPath(name)} is a hard link to entry ${entry.link}, which is not an earlier file's first name`,
        );
      }
      return inode;
    }
    const inode = inodeOf(entry);
    if (inode === undefined) throw refuse(`${showPath(name)} has the unknown type ${entry.type}`);
    if (inode.type === 'whiteout') {
      if (tree.kind === 'image') throw refuse(`${showPath(name)} is a whiteout, in the tree of an image`);
      return inode;
    }
    checkInode(inode, name, tree, this.#limits, refuse);
    if (inode.type !== 'directory') this.#linkable[position] = inode;
    if (inode.type === 'file') {
      const first = this.#objects.add(inode, name);
      // What is equal need not be in memory twice.
      inode.digest = first.digest;
      inode.chunkDigests = first.chunkDigests;
    }
    return inode;
  }
}

function readEntry(reader: BinaryReader): Entry {
  const length = reader.uint32();
  const end = reader.pos + length;
  if (end > reader.len) throw refuse('it ends in an entry');
  const entry = Entry.decode(reader, length);
  if (reader.pos !== end) throw refuse('an entry does not end where its length says');
  return entry;
}
