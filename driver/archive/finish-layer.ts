import { linkSync } from 'node:fs';
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
  await resolveLinks(writer, writer.tree, new Map());
  await finishDirectory(writer, [], writer.tree, false);
}

/** What was copied up for hard links: from the inode below to the path of the copy. */
type Copies = Map<string, Buffer>;

async function resolveLinks(writer: LayerWriter, directory: DirectoryNode, copies: Copies): Promise<void> {
  for (const child of [...directory.children.values()]) {
    if (writer.options.pacer.due) await writer.options.pacer.rest();
    if (child.kind === 'link') await resolveLink(writer, child, copies);
    else if (child.kind === 'directory') await resolveLinks(writer, child, copies);
  }
}

/** Makes a link, and before it those that it leads to; a loop, because a stranger's chain may be longer than the stack. */
async function resolveLink(writer: LayerWriter, first: PendingLink, copies: Copies): Promise<void> {
  // Another chain may have led here already.
  if (findNode(writer.tree, first.path) !== first) return;
  const chain = [first];
  const passed = new Set<PendingLink>(chain);
  for (let last = first; ; ) {
    const found = findNode(writer.tree, last.target);
    if (found?.kind === 'directory') throw refused(last.path, 'it is a hard link to a directory');
    if (found?.kind !== 'link') {
      if (found !== undefined) break;
      await linkToBelow(writer, last, copies);
      settle(writer, last);
      chain.pop();
      break;
    }
    if (passed.has(found)) throw refused(first.path, 'its hard links go round in a circle');
    passed.add(found);
    chain.push(found);
    last = found;
  }
  for (const link of chain.reverse()) {
    linkSync(writer.pathOf(link.target), writer.pathOf(link.path));
    settle(writer, link);
  }
}

function settle(writer: LayerWriter, { path }: PendingLink): void {
  const parent = findNode(writer.tree, path.slice(0, -1)) as DirectoryNode;
  parent.children.set(path.at(-1) as ByteString, OTHER);
}

/**
 * Makes a link to what the layer does not bring: to a file that the folder already has, or else one of the layers below, which is copied. Names in
 * different layers cannot share an inode, so the copy is the link's own, and that of all links of this layer to the same.
 */
async function linkToBelow(writer: LayerWriter, { path, target }: PendingLink, copies: Copies): Promise<void> {
  const missing = () => refused(path, `it is a hard link to ${showPath(target.join('/'))}, which is not there`);
  if (target.length === 0) throw refused(path, 'it is a hard link to the root');
  const own = writer.pathOf(path);
  if (isThere(writer, target)) {
    linkSync(writer.pathOf(target), own);
    return;
  }
  const status = writer.lower?.status(target);
  if (writer.lower === undefined || status === undefined) throw missing();
  if (isDirectory(status)) throw refused(path, 'it is a hard link to a directory');
  const copy = copies.get(status.inode);
  if (copy !== undefined) linkSync(copy, own);
  else if (!(await copyInode(writer.lower.pathOf(target), own, status, writer.options))) throw missing();
  copies.set(status.inode, own);
}

/** Whether the folder itself has something at `target` that a link can name, with nothing but directories on the way. */
function isThere(writer: LayerWriter, target: readonly ByteString[]): boolean {
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
  for (const name of node.whiteouts) await deleteName(writer, [...path, name], node, allHidden);
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

async function deleteName(
  writer: LayerWriter,
  path: readonly ByteString[],
  parent: DirectoryNode,
  hidden: boolean,
): Promise<void> {
  if (!parent.fresh) await removeTree([writer.root, ...path].join('/'), writer.options.pacer);
  // Below an opaque root everything is hidden name by name, deeper down the opaque directory does it.
  if (writer.options.format !== 'overlay' || (hidden && path.length > 1)) return;
  if (writer.lower !== undefined && writer.lower.status(path) === undefined) return;
  mknod(writer.pathOf(path), 'character-device', 0);
}

function hideBelow(writer: LayerWriter, path: readonly ByteString[], node: DirectoryNode): void {
  if (path.length > 0) {
    lsetxattr(writer.pathOf(path), OPAQUE_XATTR, Buffer.from('y'));
    return;
  }
  // The kernel always merges the roots, so each name below is hidden by itself.
  for (const name of writer.lower?.names([]) ?? []) node.whiteouts.add(name);
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
