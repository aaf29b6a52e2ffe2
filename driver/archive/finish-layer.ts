import { linkSync } from 'node:fs';
import { GearError } from '#core/errors.ts';
import { type ByteString, emptyDirectory } from '#core/index/tree.ts';
import { showPath, WHITEOUT_PREFIX } from '#core/tar/path.ts';
import { mknod, setTimes } from '../kernel/inode.ts';
import { lsetxattr } from '../kernel/xattr.ts';
import { copyInode } from './copy-inode.ts';
import { isDirectory, isWhiteout, namesIn, statusOfPath } from './file-status.ts';
import { type DirectoryNode, findNode, OTHER, type PendingLink, refused, settleWhiteouts } from './layer-tree.ts';
import type { LayerWriter } from './layer-writer.ts';
import { setMetadata } from './metadata.ts';
import { removeTree } from './remove-tree.ts';

const OPAQUE_XATTR = 'trusted.overlay.opaque';

/** Does what has to wait until all entries of a layer have come: late links, deletions, and the times of directories. */
export async function finishLayer(writer: LayerWriter): Promise<void> {
  await resolveLinks(writer, writer.tree);
  await finishDirectory(writer, [], writer.tree, false);
}

async function resolveLinks(writer: LayerWriter, directory: DirectoryNode): Promise<void> {
  for (const child of [...directory.children.values()]) {
    if (writer.options.pacer.due) await writer.options.pacer.rest();
    if (child.kind === 'link') await resolveLink(writer, child);
    else if (child.kind === 'directory') await resolveLinks(writer, child);
  }
}

/** Makes a link, and before it those that it leads to; a loop, because a stranger's chain may be longer than the stack. */
async function resolveLink(writer: LayerWriter, first: PendingLink): Promise<void> {
  // Another chain may have led here already.
  if (findNode(writer.tree, first.path) !== first) return;
  const chain = new Set<PendingLink>([first]);
  for (let last = first; ; ) {
    const found = findNode(writer.tree, last.target);
    if (found?.kind === 'directory') throw refused(last.path, 'it is a hard link to a directory');
    if (found?.kind !== 'link') {
      if (found === undefined) await bringFromBelow(writer, last.path, last.target);
      break;
    }
    if (chain.has(found)) throw refused(first.path, 'its hard links go round in a circle');
    chain.add(found);
    last = found;
  }
  for (const { path, target } of [...chain].reverse()) {
    if (statusOfPath(writer.pathOf(path)) === undefined) linkSync(writer.pathOf(target), writer.pathOf(path));
    const parent = findNode(writer.tree, path.slice(0, -1)) as DirectoryNode;
    parent.children.set(path.at(-1) as ByteString, OTHER);
  }
}

/**
 * Sees to the target of a link that the layer does not bring: a file that the folder already has, or one of the layers below, which is copied
 * up to its own name, or to the link's where the layer deletes it.
 */
async function bringFromBelow(
  writer: LayerWriter,
  link: readonly ByteString[],
  target: readonly ByteString[],
): Promise<void> {
  const missing = () => refused(link, `it is a hard link to ${showPath(target.join('/'))}, which is not there`);
  if (target.length === 0) throw refused(link, 'it is a hard link to the root');
  if (deepestIsPlain(writer, target)) return;
  const status = writer.lower?.status(target);
  if (writer.lower === undefined || status === undefined) throw missing();
  if (isDirectory(status)) throw refused(link, 'it is a hard link to a directory');
  const name = target.at(-1) as ByteString;
  const parent = await writer.directory(target.slice(0, -1));
  const deleted = parent.whiteouts.has(name);
  const copy = writer.pathOf(deleted ? link : target);
  if (!(await copyInode(writer.lower.pathOf(target), copy, status, writer.options))) throw missing();
  if (!deleted) parent.children.set(name, OTHER);
}

/** Whether the folder itself has something at `target` that a link can name, with nothing but directories on the way. */
function deepestIsPlain(writer: LayerWriter, target: readonly ByteString[]): boolean {
  for (let length = 1; length < target.length; length++) {
    if (!isDirectory(statusOfPath(writer.pathOf(target.slice(0, length))))) return false;
  }
  const status = statusOfPath(writer.pathOf(target));
  return status !== undefined && !isDirectory(status) && !(writer.options.format === 'overlay' && isWhiteout(status));
}

/** `hidden`: what the layers below have at `path` does not show, by this layer's will. */
async function finishDirectory(
  writer: LayerWriter,
  path: readonly ByteString[],
  node: DirectoryNode,
  hidden: boolean,
): Promise<void> {
  const { pacer, format, log } = writer.options;
  if (pacer.due) await pacer.rest();
  const allHidden = hidden || node.opaque;
  await dropInternals(writer, path, node);
  settleWhiteouts(node);
  if (node.opaque && !node.fresh) await prune(writer, path, node);
  if (node.opaque && format === 'overlay') hideBelow(writer, path, node);
  for (const name of node.whiteouts) await deleteName(writer, [...path, name], node);
  for (const [name, child] of node.children) {
    if (child.kind !== 'directory') continue;
    const childPath = [...path, name];
    // Nothing is left of the directory below, so neither is its metadata.
    if (child.implied && allHidden) {
      const metadata = emptyDirectory();
      setMetadata(writer.pathOf(childPath), metadata, { replaceXattrs: true, times: false, log });
      child.times = { seconds: metadata.mtimeSeconds, nanoseconds: metadata.mtimeNanoseconds };
    }
    await finishDirectory(writer, childPath, child, allHidden);
  }
  if (node.times !== undefined) setTimes(writer.pathOf(path), node.times.seconds, node.times.nanoseconds);
}

/** aufs kept the targets of hard links under names of its own, which are no part of the tree. */
async function dropInternals(writer: LayerWriter, path: readonly ByteString[], node: DirectoryNode): Promise<void> {
  for (const name of [...node.children.keys()]) {
    if (!name.startsWith(WHITEOUT_PREFIX)) continue;
    node.children.delete(name);
    await removeTree([writer.root, ...path, name].join('/'), writer.options.pacer);
  }
}

async function deleteName(writer: LayerWriter, path: readonly ByteString[], parent: DirectoryNode): Promise<void> {
  if (!parent.fresh) await removeTree([writer.root, ...path].join('/'), writer.options.pacer);
  if (writer.options.format === 'overlay' && !parent.opaque) mknod(writer.pathOf(path), 'character-device', 0);
}

function hideBelow(writer: LayerWriter, path: readonly ByteString[], node: DirectoryNode): void {
  if (path.length > 0) {
    lsetxattr(writer.pathOf(path), OPAQUE_XATTR, Buffer.from('y'));
    return;
  }
  // The kernel always merges the roots, so each name below is hidden by itself.
  if (writer.lower === undefined) {
    throw new GearError(
      'failed-precondition',
      'the layer hides all that lies below its root, and no lower tree was given',
    );
  }
  for (const name of writer.lower.names([])) node.whiteouts.add(name);
  settleWhiteouts(node);
  for (const child of node.children.values()) if (child.kind === 'directory') child.opaque = true;
  node.opaque = false;
}

/** Removes from an opaque directory what the layer did not bring, all the way down. */
async function prune(writer: LayerWriter, path: readonly ByteString[], node: DirectoryNode): Promise<void> {
  for (const name of namesIn(writer.pathOf(path))) {
    const child = node.children.get(name);
    if (child === undefined) await removeTree([writer.root, ...path, name].join('/'), writer.options.pacer);
    else if (child.kind === 'directory') child.opaque = true;
  }
}
