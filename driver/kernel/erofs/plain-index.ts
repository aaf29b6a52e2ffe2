import { chmodSync, closeSync, ftruncateSync, lchownSync, linkSync, mkdirSync, openSync, symlinkSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { Abortable } from '#core/abort.ts';
import {
  type ByteString,
  type Directory,
  type Inode,
  type RealInode,
  sortedNames,
  type Tree,
} from '#core/index/tree.ts';
import { checkName, checkPlace } from '../index-checks.ts';
import { imageXattrs, overlayXattrs, Warnings } from '../index-xattrs.ts';
import { mknod, setTimes } from '../inode.ts';
import { lsetxattr } from '../xattr.ts';

// How many inodes are made before other work of the process gets its turn.
const TURN = 64;

function create(inode: Inode, path: Buffer): void {
  switch (inode.type) {
    case 'directory':
      mkdirSync(path, 0o700);
      break;
    case 'file': {
      const fd = openSync(path, 'wx', 0o600);
      try {
        ftruncateSync(fd, inode.size);
      } finally {
        closeSync(fd);
      }
      break;
    }
    case 'symlink':
      symlinkSync(Buffer.from(inode.target, 'latin1'), path);
      break;
    case 'character-device':
    case 'block-device':
      mknod(path, inode.type, 0o600, inode.major, inode.minor);
      break;
    case 'fifo':
      mknod(path, 'fifo', 0o600);
      break;
    case 'whiteout':
      mknod(path, 'character-device', 0, 0, 0);
      break;
    default:
      inode satisfies never;
  }
}

// In this order: chown clears setuid and capabilities, a mode without write permission forbids nothing to root.
function setMetadata(inode: RealInode, name: ByteString, path: Buffer, warnings: Warnings): void {
  lchownSync(path, inode.uid, inode.gid);
  for (const [key, value] of overlayXattrs(inode)) lsetxattr(path, key, Buffer.from(value, 'latin1'));
  for (const [key, value] of imageXattrs(inode, name, warnings)) lsetxattr(path, key, value);
  if (inode.type !== 'symlink') chmodSync(path, inode.mode);
}

/**
 * Makes the tree as a plain directory, for use as a lower layer of overlayfs where the kernel has no EROFS: sparse files that point into data
 * directories by digest. `path` must not exist; what was made before an error stays there, so work in a scratch folder. Throws corrupt where
 * the tree has what no filesystem can hold, and as fs does. `warnings` say what was left out.
 */
export async function writeIndexFolder(
  tree: Tree,
  path: string,
  { signal }: Abortable = {},
): Promise<{ inodes: number; warnings: string[] }> {
  const warnings = new Warnings();
  const made = new Map<Inode, Buffer>();
  const finished: { directory: Directory; path: Buffer }[] = [];
  const place = (name: ByteString) => Buffer.concat([Buffer.from(`${path}/`), Buffer.from(name, 'latin1')]);
  const add = (inode: Inode, name: ByteString, where: Buffer) => {
    checkPlace(tree, inode, name, made.has(inode));
    const first = made.get(inode);
    if (first !== undefined) return linkSync(first, where);
    create(inode, where);
    made.set(inode, where);
    if (inode.type !== 'whiteout') setMetadata(inode, name, where, warnings);
    if (inode.type !== 'whiteout' && inode.type !== 'directory')
      setTimes(where, inode.mtimeSeconds, inode.mtimeNanoseconds);
  };
  add(tree.root, '', Buffer.from(path));
  const stack: { directory: Directory; name: ByteString }[] = [{ directory: tree.root, name: '' }];
  for (let top = stack.pop(), count = 0; top !== undefined; top = stack.pop()) {
    finished.push({ directory: top.directory, path: place(top.name) });
    for (const name of sortedNames(top.directory)) {
      checkName(top.name, name);
      const child = top.directory.children.get(name) as Inode;
      add(child, top.name + name, place(top.name + name));
      if (child.type === 'directory') stack.push({ directory: child, name: `${top.name + name}/` });
      if (++count % TURN === 0) {
        await setImmediate();
        signal?.throwIfAborted();
      }
    }
  }
  // Each name that was made changed its directory's time.
  for (const { directory, path: where } of finished)
    setTimes(where, directory.mtimeSeconds, directory.mtimeNanoseconds);
  return { inodes: made.size, warnings: warnings.list() };
}
