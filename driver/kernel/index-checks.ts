import { GearError } from '#core/errors.ts';
import type { ByteString, Inode, Tree } from '#core/index/tree.ts';

// The index was checked when it was decoded; what is here must not get to a filesystem in any case.

/** NAME_MAX of Linux. */
const MAX_NAME = 255;
/** readlink(2) gives no more. */
const MAX_SYMLINK = 4095;

/** Throws corrupt for a name that no directory can hold or that leads out of it. `folder` is for the message. */
export function checkName(folder: ByteString, name: ByteString): void {
  if (name === '' || name === '.' || name === '..' || name.length > MAX_NAME || /[/\0]/.test(name))
    throw new GearError('corrupt', `impossible name ${JSON.stringify(name)} in ${JSON.stringify(folder)}`);
}

/** Throws corrupt for what may not stand at `path` of the tree. `again`: the inode has a name already. */
export function checkPlace(tree: Tree, inode: Inode, path: ByteString, again: boolean): void {
  const fail = (what: string): never => {
    throw new GearError('corrupt', `${JSON.stringify(path)}: ${what}`);
  };
  if (inode.type === 'whiteout' && tree.kind === 'image') fail("a whiteout in an image's index");
  if (inode.type === 'directory' && again) fail('a second name of a directory');
  if (
    inode.type === 'symlink' &&
    (inode.target.length === 0 || inode.target.length > MAX_SYMLINK || inode.target.includes('\0'))
  )
    fail(`an impossible link target of ${inode.target.length} bytes`);
}
