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

// In this order: chown clears setuid and capabilities; every change but the last would change the time.
function setMetadata(inode: RealInode, name: ByteString, path: Buffer, warnings: Warnings): void {
  lchownSync(path, inode.uid, inode.gid);
  for (const [key, value] of overlayXattrs(inode)) lsetxattr(path, key, Buffer.from(value, 'latin1'));
  for (const [key, value] of imageXattrs(inode, name, warnings)) lsetxattr(path, key, value);
  if (inode.type !== 'symlink') chmodSync(path, inode.mode);
  setTimes(path, inode.mtimeSeconds, inode.mtimeNanoseconds);
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
  const directories: { directory: Directory; name: ByteString }[] = [];
  const place = (name: ByteString) => Buffer.concat([Buffer.from(`${path}/`), Buffer.from(name, 'latin1')]);
  const add = (inode: Inode, name: ByteString, where: Buffer) => {
    checkPlace(tree, inode, name, made.has(inode));
    const first = made.get(inode);
    if (first !== undefined) return linkSync(first, where);
    create(inode, where);
    made.set(inode, where);
    if (inode.type !== 'whiteout' && inode.type !== 'directory') setMetadata(inode, name, where, warnings);
  };
  add(tree.root, '', Buffer.from(path));
  const stack: { directory: Directory; name: ByteString }[] = [{ directory: tree.root, name: '' }];
  for (let top = stack.pop(), count = 0; top !== undefined; top = stack.pop()) {
    directories.push(top);
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
  // Last: what is made in a directory inherits its default ACL and changes its time.
  for (const { directory, name } of directories) setMetadata(directory, name, place(name), warnings);
  return { inodes: made.size, warnings: warnings.list() };
}
