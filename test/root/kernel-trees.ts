import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { digestOf } from '#core/digest.ts';
import {
  type ByteString,
  type Directory,
  emptyDirectory,
  type Inode,
  type Metadata,
  type RealInode,
  type RegularFile,
  type Tree,
  walk,
} from '#core/index/tree.ts';
import { imageXattrs, overlayXattrs, Warnings } from '../../driver/kernel/index-xattrs.ts';
import { splitDeviceNumber } from '../../driver/kernel/inode.ts';
import { readXattrs } from '../../driver/kernel/xattr.ts';

/** Numbers that are the same for the same seed (mulberry32). */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed;
  }
  /** A whole number from 0 up to, not including, `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  }
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i++) bytes[i] = this.below(256);
    return bytes;
  }
}

export const PLAIN: Metadata = {
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtimeSeconds: 1_700_000_000,
  mtimeNanoseconds: 123_456_789,
  xattrs: new Map(),
};

/** A regular file of an index that has this content. */
export function fileOf(content: Buffer, metadata: Partial<Metadata> = {}): RegularFile {
  const digest = content.length === 0 ? undefined : digestOf(content);
  return {
    ...PLAIN,
    xattrs: new Map(),
    ...metadata,
    type: 'file',
    size: content.length,
    digest,
    chunkDigests: Buffer.alloc(0),
  };
}

/** A directory with these children. */
export function directoryOf(children: Readonly<Record<string, Inode>>, metadata: Partial<Metadata> = {}): Directory {
  const directory = { ...emptyDirectory(), ...PLAIN, mode: 0o755, xattrs: new Map(), ...metadata };
  for (const [name, child] of Object.entries(children)) directory.children.set(name, child);
  return directory;
}

export function treeOf(root: Directory, kind: Tree['kind'] = 'image'): Tree {
  return { kind, chunkSize: 131_072, root };
}

function randomName(random: Random): ByteString {
  const length = random.chance(10) ? 200 + random.below(56) : 1 + random.below(20);
  const name = random.bytes(length).toString('latin1').replace(/[\0/]/g, '_');
  return name === '.' || name === '..' ? '...' : name;
}

/** An ACL that says what `mode` says, and a named user: linux/posix_acl_xattr.h. */
function aclOf(mode: number): Buffer {
  const entries = [
    [0x01, (mode >> 6) & 7, 0xffffffff],
    [0x02, 4, 1000],
    [0x04, 5, 0xffffffff],
    [0x10, (mode >> 3) & 7, 0xffffffff],
    [0x20, mode & 7, 0xffffffff],
  ] as const;
  const acl = Buffer.alloc(4 + 8 * entries.length);
  acl.writeUInt32LE(2, 0);
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    acl.writeUInt16LE(tag, 4 + 8 * i);
    acl.writeUInt16LE(permissions, 6 + 8 * i);
    acl.writeUInt32LE(id, 8 + 8 * i);
  }
  return acl;
}

function randomMetadata(random: Random, type: RealInode['type'], { smallTimes }: { smallTimes: boolean }): Metadata {
  const mode = random.chance(80) ? random.pick([0o644, 0o755, 0o600, 0o4755, 0o2711, 0o1777]) : random.below(0o10000);
  const xattrs = new Map<ByteString, Buffer>();
  if (random.chance(25)) {
    const plain = type === 'file' || type === 'directory';
    for (let i = random.below(4); i >= 0; i--) {
      const prefix = random.pick(plain ? ['user.', 'trusted.', 'security.x'] : ['trusted.', 'security.x']);
      const length = random.chance(10) ? 1500 : random.below(60);
      xattrs.set(`${prefix}a${randomName(random).slice(0, 200)}`, random.bytes(length));
    }
    if (type === 'file')
      xattrs.set(
        'security.capability',
        Buffer.from('0100000280ff0a0000000000000000000000000000000000'.slice(0, 40), 'hex'),
      );
    if (plain && random.chance(50)) xattrs.set('system.posix_acl_access', aclOf(mode));
    if (type === 'directory' && random.chance(50)) xattrs.set('system.posix_acl_default', aclOf(0o754));
  }
  return {
    mode: type === 'symlink' ? 0o777 : mode,
    uid: random.pick([0, 1, 1000, 65_535, 65_536, 100_000, 0xfffffffe]),
    gid: random.pick([0, 5, 70_000]),
    // What ext4 holds ends in 2446.
    mtimeSeconds: random.pick(
      smallTimes ? [0, 1, 1_700_000_000, -1, -(2 ** 31) + 1] : [0, -1, -(2 ** 40), 2 ** 40, 1_700_000_000],
    ),
    mtimeNanoseconds: random.pick([0, 1, 999_999_999, 123_456_789]),
    xattrs,
  };
}

export interface RandomTreeOptions {
  readonly kind?: Tree['kind'];
  /** Only what an ext4 directory can hold too. */
  readonly modest?: boolean;
  readonly entries?: number;
  /** Gets the content of every file. */
  readonly objects?: Map<string, Buffer>;
}

/** A tree with everything that an index can hold. */
export function randomTree(
  seed: number,
  { kind = 'image', modest = false, entries = 400, objects }: RandomTreeOptions = {},
): Tree {
  const random = new Random(seed);
  const options = { smallTimes: modest };
  const metadata = (type: RealInode['type']) => randomMetadata(random, type, options);
  const root = { ...emptyDirectory(), ...metadata('directory') };
  const directories: Directory[] = [root];
  const linkable: Inode[] = [];
  for (let i = 0; i < entries; i++) {
    // Some directories get most of the names, so that they need several blocks.
    const parent = random.chance(60)
      ? (directories[Math.min(directories.length - 1, 2)] as Directory)
      : random.pick(directories);
    const name = randomName(random);
    if (parent.children.has(name)) continue;
    const inode = randomInode(random, kind, metadata, linkable, objects, modest);
    parent.children.set(name, inode);
    if (inode.type === 'directory') directories.push(inode);
    else if (!linkable.includes(inode)) linkable.push(inode);
  }
  return treeOf(root, kind);
}

function randomInode(
  random: Random,
  kind: Tree['kind'],
  metadata: (type: RealInode['type']) => Metadata,
  linkable: readonly Inode[],
  objects: Map<string, Buffer> | undefined,
  modest: boolean,
): Inode {
  const choice = random.below(100);
  if (choice < 12)
    return { ...emptyDirectory(), ...metadata('directory'), opaque: kind === 'layer' && random.chance(50) };
  if (choice < 30) {
    const length = random.chance(20) ? 3000 + random.below(1096) : 1 + random.below(80);
    return {
      ...metadata('symlink'),
      type: 'symlink',
      target: random.bytes(length).toString('latin1').replaceAll('\0', '/'),
    };
  }
  if (choice < 36) return { ...metadata('fifo'), type: 'fifo' };
  if (choice < 44) {
    const type = random.pick(['character-device', 'block-device'] as const);
    return { ...metadata(type), type, major: 1 + random.below(4095), minor: random.below(0xfffff) };
  }
  if (choice < 54 && linkable.length > 0) return random.pick(linkable);
  if (choice < 60 && kind === 'layer') return { type: 'whiteout' };
  if (choice < 68) return fileOf(Buffer.alloc(0), metadata('file'));
  const content = random.bytes(1 + random.below(200));
  const file = fileOf(content, metadata('file'));
  objects?.set(file.digest as string, content);
  // Larger than any content that a test would make.
  if (objects === undefined && random.chance(10))
    file.size = random.pick(modest ? [2 ** 32, 2 ** 40 + 1] : [4096, 4097, 2 ** 43, 2 ** 46 - 1]);
  return file;
}

const TYPES: Readonly<Record<Inode['type'], bigint>> = {
  fifo: 0o01n,
  'character-device': 0o02n,
  whiteout: 0o02n,
  directory: 0o04n,
  'block-device': 0o06n,
  file: 0o10n,
  symlink: 0o12n,
};

/**
 * Compares every entry below `mounted` with the tree: names, type, mode, owner, time, size, link count, device, link target, xattrs. `direct`: overlayfs's xattrs
 * are there too (seen directly, not through an overlay). Through an overlay directories count no links, and the root is the upper directory.
 */
export function assertSameTree(tree: Tree, mounted: string, { direct }: { direct: boolean }): number {
  const links = new Map<Inode, number>();
  for (const { inode } of walk(tree.root)) links.set(inode, (links.get(inode) ?? 0) + 1);
  let count = 0;
  const numbers = new Map<bigint, Inode>();
  const check = (path: ByteString, inode: Inode) => {
    const place = Buffer.concat([Buffer.from(`${mounted}/`), Buffer.from(path, 'latin1')]);
    const what = JSON.stringify(path);
    const status = lstatSync(place, { bigint: true });
    // Names of one inode have its number, and nobody else has.
    const known = numbers.get(status.ino) ?? inode;
    assert.equal(known, inode, `${what} in ${mounted} has the inode number of another entry`);
    numbers.set(status.ino, inode);
    const seen: Record<string, unknown> = { type: status.mode >> 12n };
    const wanted: Record<string, unknown> = { type: TYPES[inode.type] };
    if (inode.type !== 'whiteout') {
      Object.assign(seen, { mode: status.mode & 0o7777n, uid: status.uid, gid: status.gid, mtime: status.mtimeNs });
      const mtime = BigInt(inode.mtimeSeconds) * 1_000_000_000n + BigInt(inode.mtimeNanoseconds);
      Object.assign(wanted, { mode: BigInt(inode.mode), uid: BigInt(inode.uid), gid: BigInt(inode.gid), mtime });
    }
    if (inode.type === 'file') [seen['size'], wanted['size']] = [status.size, BigInt(inode.size)];
    if (inode.type === 'symlink') {
      [seen['target'], wanted['target']] = [readlinkSync(place, 'latin1'), inode.target];
      [seen['size'], wanted['size']] = [status.size, BigInt(inode.target.length)];
    }
    if (inode.type === 'character-device' || inode.type === 'block-device' || inode.type === 'whiteout') {
      seen['device'] = splitDeviceNumber(Number(status.rdev));
      wanted['device'] =
        inode.type === 'whiteout' ? { major: 0, minor: 0 } : { major: inode.major, minor: inode.minor };
    }
    if (inode.type === 'directory') {
      seen['names'] = readdirSync(place, 'latin1').sort();
      wanted['names'] = [...inode.children.keys()].sort();
      if (direct) {
        seen['links'] = status.nlink;
        wanted['links'] = BigInt(2 + [...inode.children.values()].filter(({ type }) => type === 'directory').length);
      }
    } else [seen['links'], wanted['links']] = [status.nlink, BigInt(links.get(inode) ?? 0)];
    const expected = new Map(inode.type === 'whiteout' ? [] : imageXattrs(inode, path, new Warnings()));
    if (direct) for (const [name, value] of overlayXattrs(inode)) expected.set(name, Buffer.from(value));
    seen['xattrs'] = [...readXattrs(place)];
    wanted['xattrs'] = [...expected].sort(([a], [b]) => (a < b ? -1 : 1));
    assert.deepEqual(seen, wanted, `${what} in ${mounted}`);
    count++;
  };
  if (direct) check('', tree.root);
  for (const { path, inode } of walk(tree.root)) check(path, inode);
  return count;
}
