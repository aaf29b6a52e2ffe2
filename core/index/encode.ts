import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { Entry, EntryType, Index } from '#proto/gen/gear/v1/index.ts';
import { digestToBytes } from '../digest.ts';
import { DEFAULT_INDEX_LIMITS } from './limits.ts';
import { type ByteString, type Directory, type Inode, type RealInode, type Tree, walk } from './tree.ts';
import { checkChunkSize, checkInode, checkName, refuseWriting } from './validate.ts';
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

  const directories = new Map<Directory, number>([[root, 0]]);
  const inodes = new Map<Inode, number>();
  checkInode(root, '', tree, DEFAULT_INDEX_LIMITS, refuseWriting);
  write(entryOf(root, 0, ''));
  let position = 0;
  for (const { name, path, inode, parent } of walk(root)) {
    position++;
    checkPlace(position, path, name);
    const at = directories.get(parent) as number;
    if (inode.type === 'whiteout') {
      if (kind === 'image') throw refuseWriting(`${JSON.stringify(path)} is a whiteout, in the tree of an image`);
      write({ ...EMPTY, parent: at, name: bytes(name), type: TYPE.whiteout });
      continue;
    }
    const known = inode.type === 'directory' ? directories : inodes;
    const first = (known as Map<Inode, number>).get(inode);
    if (first === undefined) {
      (known as Map<Inode, number>).set(inode, position);
      checkInode(inode, name, tree, DEFAULT_INDEX_LIMITS, refuseWriting);
      write(entryOf(inode, at, name));
    } else if (inode.type === 'directory') {
      throw refuseWriting(`the directory ${JSON.stringify(path)} has another name already`);
    } else {
      write({ ...EMPTY, parent: at, name: bytes(name), type: EntryType.ENTRY_TYPE_HARD_LINK, link: first });
    }
  }
  const encoded = writer.finish();
  return Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength);
}

function checkPlace(position: number, path: ByteString, name: ByteString): void {
  const { entries, pathBytes } = DEFAULT_INDEX_LIMITS;
  if (position >= entries) throw refuseWriting(`it has more than ${entries} entries`);
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
