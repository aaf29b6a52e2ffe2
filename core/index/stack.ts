import { GearError } from '../errors.ts';
import { originOf } from './link-origin.ts';
import { DEFAULT_CHUNK_SIZE, type Directory, emptyDirectory, type Inode, type Tree } from './tree.ts';

/**
 * The image that layers, lowest first, make together: what overlayfs shows when it mounts them over each other. The layers stay as they are; the image
 * has directories of its own but shares the other inodes with them, so treat these as values.
 *
 * As with overlay2 in Docker 20.10, a directory that an upper layer has takes its metadata from there, even if that layer's tar only implied it
 * (moby 20.10 pkg/archive, Unpack, makes missing parents with 0755 root:root in the layer's own directory, and overlayfs shows the
 * uppermost). Only the root is different: a layer that never names it leaves it as it was.
 *
 * Throws invalid-argument where layers have different chunk sizes.
 */
export function stack(layers: readonly Tree[]): Tree {
  const chunkSize = layers[0]?.chunkSize ?? DEFAULT_CHUNK_SIZE;
  const root = emptyDirectory();
  const links: Link[] = [];
  for (const layer of layers) {
    if (layer.chunkSize !== chunkSize) {
      throw new GearError(
        'invalid-argument',
        `layers of ${chunkSize} and ${layer.chunkSize} bytes a chunk cannot be one image`,
      );
    }
    if (layer.root.implied !== true) copyMetadata(root, layer.root);
    merge(root, layer.root, links);
  }
  rejoin(root, links);
  return { kind: 'image', chunkSize, root };
}

/** A name whose inode is, in a layer below, the inode of another name. */
interface Link {
  readonly directory: Directory;
  readonly name: string;
  readonly inode: Inode;
  readonly origin: Inode;
}

function merge(into: Directory, upper: Directory, links: Link[]): void {
  if (upper.opaque) into.children.clear();
  for (const [name, inode] of upper.children) {
    if (inode.type === 'whiteout') into.children.delete(name);
    else if (inode.type === 'directory') {
      const existing = into.children.get(name);
      const directory = existing?.type === 'directory' ? existing : emptyDirectory();
      copyMetadata(directory, inode);
      if (directory !== existing) into.children.set(name, directory);
      merge(directory, inode, links);
    } else {
      into.children.set(name, inode);
      const origin = originOf(inode);
      if (origin !== undefined) links.push({ directory: into, name, inode, origin });
    }
  }
}

/** Gives names that a layer linked to a lower layer's inode that very inode, if it is still to be seen. */
function rejoin(root: Directory, links: readonly Link[]): void {
  if (links.length === 0) return;
  const visible = new Set<Inode>();
  const collect = (directory: Directory): void => {
    for (const inode of directory.children.values()) {
      if (inode.type === 'directory') collect(inode);
      else visible.add(inode);
    }
  };
  collect(root);
  for (const { directory, name, inode, origin } of links) {
    if (directory.children.get(name) !== inode) continue;
    // The origin may itself be a link to a layer further down.
    let oldest = inode;
    for (let below: Inode | undefined = origin; below !== undefined; below = originOf(below)) {
      if (visible.has(below)) oldest = below;
    }
    directory.children.set(name, oldest);
  }
}

function copyMetadata(into: Directory, from: Directory): void {
  into.mode = from.mode;
  into.uid = from.uid;
  into.gid = from.gid;
  into.mtimeSeconds = from.mtimeSeconds;
  into.mtimeNanoseconds = from.mtimeNanoseconds;
  into.xattrs = from.xattrs;
}
