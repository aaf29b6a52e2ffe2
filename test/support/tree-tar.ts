import type { Digest } from '#core/digest.ts';
import { type Inode, type Tree, walk } from '#core/index/tree.ts';
import type { TarEntryType, TarHeader } from '#core/tar/entry.ts';
import { writeTar } from '#core/tar/writer.ts';

/** An image's tree as a tar, with each entry's own metadata, and hard links to the first name. */
export async function tarOf(tree: Tree, contents: ReadonlyMap<Digest, Buffer>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(writeTar(entriesOf(tree, contents))));
}

async function* entriesOf(tree: Tree, contents: ReadonlyMap<Digest, Buffer>) {
  yield { header: headerOf('./', tree.root, 'directory') };
  const first = new Map<Inode, string>();
  for (const { path, inode } of walk(tree.root)) {
    if (inode.type === 'whiteout') continue;
    const earlier = first.get(inode);
    if (earlier !== undefined) {
      yield { header: { ...headerOf(path, inode, 'hard-link'), link: earlier, size: 0 } };
      continue;
    }
    first.set(inode, path);
    const content = inode.type === 'file' && inode.digest !== undefined ? contents.get(inode.digest) : undefined;
    const header = headerOf(path, inode, inode.type);
    yield content === undefined ? { header } : { header, content: once(content) };
  }
}

function headerOf(path: string, inode: Exclude<Inode, { type: 'whiteout' }>, type: TarEntryType): TarHeader {
  const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = inode;
  return {
    ...{ path, type, mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs },
    size: inode.type === 'file' ? inode.size : 0,
    link: inode.type === 'symlink' ? inode.target : '',
    major: 'major' in inode ? inode.major : 0,
    minor: 'minor' in inode ? inode.minor : 0,
  };
}

async function* once(content: Buffer): AsyncGenerator<Buffer> {
  yield content;
}
