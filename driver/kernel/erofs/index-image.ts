import { open, rm } from 'node:fs/promises';
import type { Abortable } from '#core/abort.ts';
import { GearError } from '#core/errors.ts';
import type { ByteString, Directory, Inode, Tree } from '#core/index/tree.ts';
import { checkName, checkPlace } from '../index-checks.ts';
import { imageXattrs, overlayXattrs, Warnings } from '../index-xattrs.ts';
import { deviceNumber } from '../inode.ts';
import { MAX_XATTR_BODY, XATTR_PREFIXES } from './format.ts';
import type { ErofsContent, ErofsInode, ErofsXattr } from './inode.ts';
import { writeErofs } from './writer.ts';
import { xattrBodySize } from './xattrs.ts';

const TYPE_BITS = {
  fifo: 0o010000,
  'character-device': 0o020000,
  directory: 0o040000,
  'block-device': 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  whiteout: 0o020000,
} as const satisfies Record<Inode['type'], number>;

const NO_METADATA = { mode: 0, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0 };
const NOTHING: ErofsContent = { kind: 'none' };

function erofsXattr(name: ByteString, value: ByteString | Buffer): ErofsXattr {
  for (const { prefix, index, whole } of XATTR_PREFIXES) {
    if (whole ? name === prefix : name.startsWith(prefix)) return { index, name: name.slice(prefix.length), value };
  }
  throw new GearError('internal', `xattr ${JSON.stringify(name)} has no prefix that EROFS knows`);
}

/** An inode of the tree as the writer wants it. */
class IndexInode implements ErofsInode {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  links = 1;
  content: ErofsContent;
  readonly #inode: Inode;
  readonly #own: readonly (readonly [ByteString, Buffer])[];

  constructor(inode: Inode, content: ErofsContent, own: readonly (readonly [ByteString, Buffer])[]) {
    const metadata = inode.type === 'whiteout' ? NO_METADATA : inode;
    this.mode = TYPE_BITS[inode.type] | metadata.mode;
    this.uid = metadata.uid;
    this.gid = metadata.gid;
    this.mtimeSeconds = metadata.mtimeSeconds;
    this.mtimeNanoseconds = metadata.mtimeNanoseconds;
    this.content = content;
    this.#inode = inode;
    this.#own = own;
  }

  // Made anew in each pass instead of kept: an index has a file's redirect once, as a digest.
  xattrs(): ErofsXattr[] {
    return [...overlayXattrs(this.#inode), ...this.#own].map(([name, value]) => erofsXattr(name, value));
  }
}

function contentOf(inode: Inode): ErofsContent {
  switch (inode.type) {
    case 'file':
      return inode.size === 0 ? NOTHING : { kind: 'hole', size: inode.size };
    case 'symlink':
      return { kind: 'symlink', target: inode.target };
    case 'character-device':
    case 'block-device':
      return { kind: 'device', number: deviceNumber(inode.major, inode.minor) };
    case 'whiteout':
      return { kind: 'device', number: 0 };
    case 'directory':
    case 'fifo':
      return NOTHING;
    default:
      return inode satisfies never;
  }
}

function checkXattrs(inode: ErofsInode, path: ByteString): void {
  const size = xattrBodySize(inode.xattrs());
  if (size > MAX_XATTR_BODY)
    throw new GearError(
      'resource-exhausted',
      `${JSON.stringify(path)} has xattrs of ${size} bytes; an EROFS image holds ${MAX_XATTR_BODY} of one file`,
    );
}

/** The inodes of a tree: each once, the root first, those of one directory side by side, so that a walk reads in order. */
function listInodes(tree: Tree, warnings: Warnings): ErofsInode[] {
  const list: IndexInode[] = [];
  const numbers = new Map<Inode, number>();
  const add = (inode: Inode, path: ByteString): number => {
    const own = inode.type === 'whiteout' ? [] : imageXattrs(inode, path, warnings);
    const listed = new IndexInode(inode, contentOf(inode), own);
    if (own.length > 0) checkXattrs(listed, path);
    const number = list.push(listed) - 1;
    numbers.set(inode, number);
    return number;
  };
  const stack: { directory: Directory; number: number; parent: number; path: ByteString }[] = [
    { directory: tree.root, number: add(tree.root, '/'), parent: 0, path: '/' },
  ];
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const { directory, number, parent, path } = top;
    const names = ['.', '..', ...directory.children.keys()].sort();
    const below: typeof stack = [];
    const targets = names.map((name) => {
      if (name === '.') return number;
      if (name === '..') return parent;
      checkName(path, name);
      const child = directory.children.get(name) as Inode;
      const childPath = path + name;
      const known = numbers.get(child);
      checkPlace(tree, child, childPath, known !== undefined);
      if (known !== undefined) {
        (list[known] as IndexInode).links++;
        return known;
      }
      const added = add(child, childPath);
      if (child.type === 'directory')
        below.push({ directory: child, number: added, parent: number, path: `${childPath}/` });
      return added;
    });
    const own = list[number] as IndexInode;
    own.content = { kind: 'directory', names, targets };
    own.links = 2 + below.length;
    stack.push(...below.toReversed());
  }
  return list;
}

/**
 * Compiles a tree to an EROFS image, for use as a lower layer of overlayfs: files without contents, which point into data directories by
 * digest. `path` must not exist; it is not flushed and appears at once, so give a temporary name and rename. Nothing is left there on error. Throws
 * corrupt where the tree has what no filesystem can hold. `warnings` say what was left out.
 */
export async function writeIndexImage(
  tree: Tree,
  path: string,
  options: Abortable = {},
): Promise<{ size: number; inodes: number; warnings: string[] }> {
  const warnings = new Warnings();
  const inodes = listInodes(tree, warnings);
  await using file = await open(path, 'wx', 0o600);
  try {
    const size = await writeErofs(inodes, file, options);
    return { size, inodes: inodes.length, warnings: warnings.list() };
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}
