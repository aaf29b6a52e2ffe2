import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { Entry, EntryType, Index } from '#proto/gen/gear/v1/index.ts';
import { digestToBytes } from '../digest.ts';
import { showPath } from '../tar/path.ts';
import { DEFAULT_INDEX_LIMITS } from './limits.ts';
import { type ByteString, type Directory, type Inode, type RealInode, type Tree, walk } from './tree.ts';
import { checkChunkSize, checkInode, checkName, ObjectRules, refuseWriting } from './validate.ts';
import { INDEX_VERSION, KIND, TYPE } from './wire.ts';

export { decodeIndex } from './decode.ts';

/** The tag of `entries` in an Index: field 4, length-delimited. */
export const ENTRIES_TAG = (4 << 3) | 2;

const NO_BYTES = Buffer.alloc(0);
const EMPTY: Readonly<Entry> = Entry.decode(NO_BYTES);

/**
 * A tree as the bytes of index.proto's Index. The same tree always gives the same bytes, whatever the order in its maps: names and attributes are
 * sorted, and an inode with several names is written at the first. Throws invalid-argument for what decodeIndex would refuse.
 */
export function encodeIndex(tree: Tree): Buffer {
  checkChunkSize(tree.chunkSize, refuseWriting);
  const { kind, chunkSize, root } = tree;
  const writer = new BinaryWriter();
  Index.encode({ version: INDEX_VERSION, chunkSize, kind: KIND[kind], entries: [] }, writer);
  // Entry by entry, so that there are never as many messages as entries.
  const write = (entry: Entry) => Entry.encode(entry, writer.uint32(ENTRIES_TAG).fork()).join();

  const directories = new Map<Directory, Place>([[root, { position: 0, depth: 0 }]]);
  const inodes = new Map<Inode, number>();
  const objects = new ObjectRules(DEFAULT_INDEX_LIMITS, refuseWriting);
  checkInode(root, '', tree, DEFAULT_INDEX_LIMITS, refuseWriting);
  write(entryOf(root, 0, ''));
  let position = 0;
  for (const { name, path, inode, parent } of walk(root)) {
    const place = directories.get(parent) as Place;
    checkPlace(++position, place.depth, path, name);
    const entry = { ...EMPTY, parent: place.position, name: bytes(name) };
    if (inode.type === 'whiteout') {
      if (kind === 'image') throw refuseWriting(`${showPath(path)} is a whiteout, in the tree of an image`);
      write({ ...entry, type: TYPE.whiteout });
      continue;
    }
    if (inode.type === 'directory') {
      if (directories.has(inode)) throw refuseWriting(`the directory ${showPath(path)} has another name already`);
      directories.set(inode, { position, depth: place.depth + 1 });
    } else {
      const first = inodes.get(inode);
      if (first !== undefined) {
        write({ ...entry, type: EntryType.ENTRY_TYPE_HARD_LINK, link: first });
        continue;
      }
      inodes.set(inode, position);
    }
    checkInode(inode, name, tree, DEFAULT_INDEX_LIMITS, refuseWriting);
    if (inode.type === 'file') objects.add(inode, name);
    write(entryOf(inode, place.position, name));
  }
  const encoded = writer.finish();
  return Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength);
}

interface Place {
  readonly position: number;
  /** Directories above, the root not counted. */
  readonly depth: number;
}

function checkPlace(position: number, depth: number, path: ByteString, name: ByteString): void {
  const { entries, pathBytes, depth: maxDepth } = DEFAULT_INDEX_LIMITS;
  if (position >= entries) throw refuseWriting(`it has more than ${entries} entries`);
  if (depth > maxDepth) throw refuseWriting(`it nests deeper than ${maxDepth} directories`);
  if (path.length > pathBytes) throw refuseWriting(`a path has more than ${pathBytes} bytes`);
  checkName(name, DEFAULT_INDEX_LIMITS, refuseWriting);
}

function entryOf(inode: RealInode, parent: number, name: ByteString): Entry {
  const entry: Entry = {
    ...EMPTY,
    parent,
    name: bytes(name),
    type: TYPE[inode.type],
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    mtimeSeconds: BigInt(inode.mtimeSeconds),
    mtimeNanoseconds: inode.mtimeNanoseconds,
  };
  if (inode.xattrs.size > 0) {
    entry.xattrs = [...inode.xattrs.keys()].sort().map((key) => ({
      name: bytes(key),
      value: inode.xattrs.get(key) as Buffer,
    }));
  }
  switch (inode.type) {
    case 'directory':
      entry.opaque = inode.opaque;
      entry.implied = inode.implied === true;
      break;
    case 'file':
      entry.size = BigInt(inode.size);
      if (inode.digest !== undefined) entry.digest = digestToBytes(inode.digest);
      entry.chunkDigests = inode.chunkDigests;
      break;
    case 'symlink':
      entry.target = bytes(inode.target);
      break;
    case 'character-device':
    case 'block-device':
      entry.deviceMajor = inode.major;
      entry.deviceMinor = inode.minor;
      break;
    case 'fifo':
      break;
  }
  return entry;
}

function bytes(text: ByteString): Buffer {
  return Buffer.from(text, 'latin1');
}
