import { linkSync, mkdirSync, renameSync, unlinkSync } from 'node:fs';
import { temporaryName } from '#core/atomic-file.ts';
import { GearError } from '#core/errors.ts';
import { type ByteString, emptyDirectory, type Metadata } from '#core/index/tree.ts';
import type { TarEntry } from '#core/tar/entry.ts';
import { splitPath } from '#core/tar/path.ts';
import type { ApplyOptions } from './apply.ts';
import { createEntry } from './create-entry.ts';
import {
  bytesOfPath,
  FORMAT,
  hasFormat,
  isDirectory,
  isWhiteout,
  namesIn,
  statusOfPath,
  toPath,
} from './file-status.ts';
import { type DirectoryNode, directoryNode, findNode, type LayerNode, OTHER, refused } from './layer-tree.ts';
import { Lower } from './lower.ts';
import { setMetadata } from './metadata.ts';
import type { Pacer } from './pacer.ts';
import { removeTree } from './remove-tree.ts';

/**
 * Writes the entries of one layer into a folder and remembers what they bring. Whiteouts, opaque markers, links to what has not come yet and the
 * times of directories wait for the end (finish-layer.ts), so that the order of the entries does not matter.
 */
export class LayerWriter {
  readonly root: ByteString;
  readonly tree: DirectoryNode;
  readonly options: ApplyOptions & { readonly pacer: Pacer };
  readonly lower: Lower | undefined;

  constructor(directory: string, options: ApplyOptions & { readonly pacer: Pacer }) {
    this.root = bytesOfPath(directory);
    this.options = options;
    this.lower = options.lower === undefined ? undefined : new Lower(options.lower);
    const status = statusOfPath(toPath(this.root));
    if (!isDirectory(status)) {
      throw new GearError('not-found', `${directory} is not a directory, so no layer can be applied to it`);
    }
    const fresh = namesIn(toPath(this.root)).length === 0;
    this.tree = directoryNode({ fresh, implied: true, times: timesOf(status) });
    const below = fresh ? this.lower?.directory([]) : undefined;
    if (below !== undefined) {
      setMetadata(toPath(this.root), below, { times: false, log: options.log });
      this.tree.times = timesOf(below);
    }
  }

  pathOf(path: readonly ByteString[]): Buffer {
    return toPath([this.root, ...path].join('/'));
  }

  async whiteout(directory: readonly ByteString[], name: ByteString): Promise<void> {
    (await this.directory(directory)).whiteouts.add(name);
  }

  async opaque(directory: readonly ByteString[]): Promise<void> {
    (await this.directory(directory)).opaque = true;
  }

  async add(path: readonly ByteString[], entry: TarEntry): Promise<void> {
    const name = path.at(-1);
    if (name === undefined) {
      if (entry.type !== 'directory') throw refused(path, `the root cannot be a ${entry.type}`);
      this.#describe(path, this.tree, entry);
      return;
    }
    const parent = await this.directory(path.slice(0, -1));
    if (isDeletion(entry)) {
      // Overlayfs would take the device for a whiteout, so it is one.
      parent.whiteouts.add(name);
    } else if (entry.type === 'directory') {
      this.#describe(path, await this.#makeDirectory(path, parent, false), entry);
    } else if (entry.type === 'hard-link') {
      await this.#link(path, parent, splitPath(entry.link), entry);
    } else {
      await this.#clear(path, parent);
      await createEntry(this.pathOf(path), entry, this.options);
      parent.children.set(name, OTHER);
    }
  }

  /**
   * The directory at `path`; made, with all above it, where it is not there yet. A symlink or file that this layer brought is never
   * gone through; one that was there before gives way, as it would below an overlay.
   */
  async directory(path: readonly ByteString[]): Promise<DirectoryNode> {
    let node = this.tree;
    for (const [index, name] of path.entries()) {
      const child = node.children.get(name);
      if (child === undefined) node = await this.#makeDirectory(path.slice(0, index + 1), node, true);
      else if (child.kind === 'directory') node = child;
      else throw refused(path, `the layer has something else than a directory at its component ${index + 1}`);
    }
    return node;
  }

  async #makeDirectory(path: readonly ByteString[], parent: DirectoryNode, implied: boolean): Promise<DirectoryNode> {
    const name = path.at(-1) as ByteString;
    const known = parent.children.get(name);
    if (known?.kind === 'directory') return known;
    const target = this.pathOf(path);
    const found = parent.fresh && known === undefined ? undefined : statusOfPath(target);
    const exists = isDirectory(found);
    const node = directoryNode({ fresh: !exists, implied: true, times: exists ? timesOf(found) : undefined });
    if (!exists) {
      if (found !== undefined) unlinkSync(target);
      // A whiteout of an earlier layer in this folder hid what lies below; the directory has to go on doing so.
      if (this.options.format === 'overlay' && isWhiteout(found)) node.opaque = true;
      mkdirSync(target, 0o700);
      if (implied) this.#imply(path, node);
    }
    parent.children.set(name, node);
    return node;
  }

  /** What Docker makes where a tar leaves out a parent. */
  #imply(path: readonly ByteString[], node: DirectoryNode): void {
    const metadata = emptyDirectory();
    setMetadata(this.pathOf(path), metadata, { times: false, log: this.options.log });
    node.times = timesOf(metadata);
  }

  #describe(path: readonly ByteString[], node: DirectoryNode, entry: TarEntry): void {
    setMetadata(this.pathOf(path), entry, { replaceXattrs: true, times: false, log: this.options.log });
    node.implied = false;
    node.times = timesOf(entry);
  }

  async #link(
    path: readonly ByteString[],
    parent: DirectoryNode,
    target: readonly ByteString[],
    entry: TarEntry,
  ): Promise<void> {
    const name = path.at(-1) as ByteString;
    const found: LayerNode | undefined = findNode(this.tree, target);
    if (found?.kind === 'directory') throw refused(path, 'it is a hard link to a directory');
    if (target.join('/') === path.join('/')) throw refused(path, 'it is a hard link to itself');
    if (found?.kind !== 'other') {
      await this.#clear(path, parent);
      parent.children.set(name, { kind: 'link', path, target });
      return;
    }
    const own = this.pathOf(path);
    // By way of another name, for the target may lie in a directory that gives way to the link.
    const temporary = this.pathOf([temporaryName()]);
    linkSync(this.pathOf(target), temporary);
    await this.#clear(path, parent);
    renameSync(temporary, own);
    // As Docker does: what a link's header says holds for the inode (of a symlink only owner and xattrs).
    const symlink = hasFormat(statusOfPath(own), FORMAT.symlink);
    setMetadata(own, entry, { symlink, times: !symlink, log: this.options.log });
    parent.children.set(name, OTHER);
  }

  /** Removes what is under a name, so that something else than a directory can take it. */
  async #clear(path: readonly ByteString[], parent: DirectoryNode): Promise<void> {
    const name = path.at(-1) as ByteString;
    if (parent.fresh && !parent.children.has(name)) return;
    await removeTree([this.root, ...path].join('/'), this.options.pacer);
    parent.children.delete(name);
  }
}

function timesOf(metadata: Pick<Metadata, 'mtimeSeconds' | 'mtimeNanoseconds'>): DirectoryNode['times'] {
  return { seconds: metadata.mtimeSeconds, nanoseconds: metadata.mtimeNanoseconds };
}

function isDeletion(entry: TarEntry): boolean {
  return entry.type === 'character-device' && entry.major === 0 && entry.minor === 0;
}
