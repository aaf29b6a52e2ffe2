import { type Entry, EntryType } from '#proto/gen/gear/v1/index.ts';
import { digestFromBytes } from '../digest.ts';
import { showPath } from '../tar/path.ts';
import type { ByteString, Inode, Metadata } from './tree.ts';
import { refuseReading as refuse } from './validate.ts';
import { NO_XATTRS } from './xattrs.ts';

const NO_BYTES = Buffer.alloc(0);

/** What an entry says by itself, not yet checked but for the order of its attributes; undefined for a hard link and for an unknown type. */
export function inodeOf(entry: Entry): Inode | undefined {
  switch (entry.type) {
    case EntryType.ENTRY_TYPE_DIRECTORY:
      return {
        type: 'directory',
        ...metadataOf(entry),
        children: new Map(),
        opaque: entry.opaque,
        ...(entry.implied ? { implied: true } : {}),
      };
    case EntryType.ENTRY_TYPE_FILE:
      if (entry.digest.length !== 0 && entry.digest.length !== 32) {
        throw refuse(`${showPath(nameOf(entry))} has a digest of ${entry.digest.length} bytes`);
      }
      return {
        type: 'file',
        ...metadataOf(entry),
        size: Number(entry.size),
        digest: entry.digest.length === 0 ? undefined : digestFromBytes(entry.digest),
        chunkDigests: entry.chunkDigests.length === 0 ? NO_BYTES : entry.chunkDigests,
      };
    case EntryType.ENTRY_TYPE_SYMLINK:
      return { type: 'symlink', ...metadataOf(entry), target: entry.target.toString('latin1') };
    case EntryType.ENTRY_TYPE_CHARACTER_DEVICE:
    case EntryType.ENTRY_TYPE_BLOCK_DEVICE: {
      const type = entry.type === EntryType.ENTRY_TYPE_BLOCK_DEVICE ? 'block-device' : 'character-device';
      return { type, ...metadataOf(entry), major: entry.deviceMajor, minor: entry.deviceMinor };
    }
    case EntryType.ENTRY_TYPE_FIFO:
      return { type: 'fifo', ...metadataOf(entry) };
    case EntryType.ENTRY_TYPE_WHITEOUT:
      return { type: 'whiteout' };
    default:
      return undefined;
  }
}

/** The name of a field that is set though entries of this type have none such. */
export function strayField(entry: Entry): string | undefined {
  const { type } = entry;
  if (entry.target.length > 0 && type !== EntryType.ENTRY_TYPE_SYMLINK) return 'a target';
  const isDevice = type === EntryType.ENTRY_TYPE_CHARACTER_DEVICE || type === EntryType.ENTRY_TYPE_BLOCK_DEVICE;
  if ((entry.deviceMajor !== 0 || entry.deviceMinor !== 0) && !isDevice) return 'device numbers';
  const hasContent = entry.size !== 0n || entry.digest.length > 0 || entry.chunkDigests.length > 0;
  if (hasContent && type !== EntryType.ENTRY_TYPE_FILE) return 'a size or digests';
  if (entry.link !== 0 && type !== EntryType.ENTRY_TYPE_HARD_LINK) return 'a link';
  if ((entry.opaque || entry.implied) && type !== EntryType.ENTRY_TYPE_DIRECTORY) return 'a mark of directories';
  const hasMetadata =
    entry.mode !== 0 ||
    entry.uid !== 0 ||
    entry.gid !== 0 ||
    entry.mtimeSeconds !== 0n ||
    entry.mtimeNanoseconds !== 0 ||
    entry.xattrs.length > 0;
  const hasNoInode = type === EntryType.ENTRY_TYPE_HARD_LINK || type === EntryType.ENTRY_TYPE_WHITEOUT;
  return hasMetadata && hasNoInode ? 'metadata' : undefined;
}

function metadataOf(entry: Entry): Metadata {
  return {
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtimeSeconds: Number(entry.mtimeSeconds),
    mtimeNanoseconds: entry.mtimeNanoseconds,
    xattrs: xattrsOf(entry),
  };
}

function xattrsOf(entry: Entry): Map<ByteString, Buffer> {
  if (entry.xattrs.length === 0) return NO_XATTRS;
  const xattrs = new Map<ByteString, Buffer>();
  let last = '';
  for (const { name, value } of entry.xattrs) {
    const key = name.toString('latin1');
    if (key <= last) throw refuse(`${showPath(nameOf(entry))} has attributes out of order, or double`);
    last = key;
    xattrs.set(key, value);
  }
  return xattrs;
}

function nameOf(entry: Entry): ByteString {
  return entry.name.toString('latin1');
}
