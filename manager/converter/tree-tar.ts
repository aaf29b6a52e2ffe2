import { GearError } from '#core/errors.ts';
import { type ByteString, type Inode, type RealInode, type RegularFile, type Tree, walk } from '#core/index/tree.ts';
import type { TarHeader } from '#core/tar/entry.ts';
import { showPath } from '#core/tar/path.ts';

/** An entry of the tar of a tree; of a regular file that is not empty, `file` says whose content follows. */
export interface TreeEntry {
  readonly header: TarHeader;
  readonly file: RegularFile | undefined;
}

function headerOf(path: ByteString, inode: RealInode, firstName: ByteString | undefined): TarHeader {
  const isDevice = inode.type === 'character-device' || inode.type === 'block-device';
  return {
    path,
    type: firstName === undefined ? inode.type : 'hard-link',
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    mtimeSeconds: inode.mtimeSeconds,
    mtimeNanoseconds: inode.mtimeNanoseconds,
    size: inode.type === 'file' && firstName === undefined ? inode.size : 0,
    link: firstName ?? (inode.type === 'symlink' ? inode.target : ''),
    major: isDevice ? inode.major : 0,
    minor: isDevice ? inode.minor : 0,
    // A hard link repeats its inode's: to extract it sets owner and attributes again.
    xattrs: inode.xattrs,
  };
}

/**
 * The entries of a tar that makes an image's tree when it is extracted: the root, and each directory, before what is in it, names in the order of their bytes; so
 * always the same for the same tree.
 */
export function* entriesOf(tree: Tree): Generator<TreeEntry, void, void> {
  const names = new Map<Inode, ByteString>();
  yield { header: headerOf('.', tree.root, undefined), file: undefined };
  for (const { path, inode } of walk(tree.root)) {
    if (inode.type === 'whiteout') throw new GearError('corrupt', `${showPath(path)} is a whiteout, in an image`);
    const firstName = names.get(inode);
    if (inode.type !== 'directory' && firstName === undefined) names.set(inode, path);
    const isContent = inode.type === 'file' && inode.size > 0 && firstName === undefined;
    yield { header: headerOf(path, inode, firstName), file: isContent ? inode : undefined };
  }
}
