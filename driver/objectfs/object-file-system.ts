import { statfsSync } from 'node:fs';
import { isDigest } from '#core/digest.ts';
import type { DirectoryEntry } from '../kernel/fuse/directory.ts';
import { FuseError } from '../kernel/fuse/errno.ts';
import type { Call, FileSystem, Opened } from '../kernel/fuse/file-system.ts';
import type { Attributes, Entry, Statistics } from '../kernel/fuse/reply.ts';
import { type NodeId, ROOT_NODE, type Uint64 } from '../kernel/fuse/request.ts';
import type { ImageEntries } from './image-entries.ts';
import type { ImageEntry } from './image-entry.ts';
import { listFolder } from './listing.ts';
import { makeNode, NODE_KIND, nodeKind, nodeNumber } from './node-id.ts';
import type { ObjectAccess } from './object-access.ts';

/** Objects never change, and neither does what a digest names. */
export const FOR_EVER = 365 * 24 * 3600;
/** Images come and go, and one that was removed and pulled again is another folder: a mount must never begin with the one before. */
export const IMAGE_NAME_SECONDS = 0;

const FOLDER_MODE = 0o040555;
const OBJECT_MODE = 0o100444;

export interface ObjectFileSystemOptions {
  readonly images: ImageEntries;
  readonly access: ObjectAccess;
  /** Any path of the caches' filesystem, whose size and room are shown as ours. */
  readonly folder: string;
}

/** remote/: a folder for each image, in it aa/bbbb... for each of its objects. Opening an object means that the image touches it. */
export class ObjectFileSystem implements FileSystem {
  readonly #options: ObjectFileSystemOptions;

  constructor(options: ObjectFileSystemOptions) {
    this.#options = options;
  }

  lookup(parent: NodeId, name: string): Entry {
    if (parent.high === 0) {
      const entry = this.#options.images.byName(name);
      if (entry === undefined) throw new FuseError('ENOENT');
      this.#options.access.mounted(entry);
      return this.#folder(makeNode(entry.table.slot, NODE_KIND.image, 0), IMAGE_NAME_SECONDS);
    }
    const entry = this.#image(parent);
    switch (nodeKind(parent)) {
      case NODE_KIND.image: {
        const prefix = /^[0-9a-f]{2}$/.test(name) ? Number.parseInt(name, 16) : undefined;
        const [start, end] = prefix === undefined ? [0, 0] : entry.table.prefixRange(prefix);
        if (prefix === undefined || start === end) throw new FuseError('ENOENT');
        return this.#folder(makeNode(parent.high, NODE_KIND.prefix, prefix), FOR_EVER);
      }
      case NODE_KIND.prefix: {
        const digest = nodeNumber(parent).toString(16).padStart(2, '0') + name;
        const row = isDigest(digest) ? entry.table.find(digest) : undefined;
        if (row === undefined) throw new FuseError('ENOENT');
        return this.#objectEntry(entry, row, this.#options.access.isDirect(entry, row));
      }
      default:
        throw new FuseError('ENOTDIR');
    }
  }

  attributes(node: NodeId): { attributes: Attributes; seconds: number } {
    return { attributes: this.#attributes(node), seconds: FOR_EVER };
  }

  open(node: NodeId, call: Call): Opened | Promise<Opened> {
    const entry = this.#image(node);
    const { access } = this.#options;
    switch (nodeKind(node)) {
      case NODE_KIND.cached:
        return access.openCached(entry, nodeNumber(node));
      case NODE_KIND.direct:
        return access.openDirect(entry, nodeNumber(node), node, call);
      default:
        throw new FuseError('EISDIR');
    }
  }

  read(node: NodeId, offset: number, size: number, call: Call): Promise<readonly Uint8Array[]> {
    if (nodeKind(node) < NODE_KIND.cached) throw new FuseError('EISDIR');
    return this.#options.access.read(this.#image(node), nodeNumber(node), offset, size, call);
  }

  release(node: NodeId, handle: Uint64): void {
    if (nodeKind(node) === NODE_KIND.direct) this.#options.access.releaseDirect(node, handle);
  }

  list(node: NodeId, offset: number): Iterable<DirectoryEntry> {
    const { images } = this.#options;
    if (node.high === 0) {
      const names = images.names();
      return listFolder(this.#folder(node, 0), offset, names.length, (i) => {
        const name = names[i] as string;
        return { name, entry: this.lookup(ROOT_NODE, name) };
      });
    }
    const { table } = this.#image(node);
    const self = this.#folder(node, FOR_EVER);
    if (nodeKind(node) === NODE_KIND.image) {
      const prefixes = Array.from({ length: 256 }, (_, prefix) => prefix).filter((prefix) => {
        const [start, end] = table.prefixRange(prefix);
        return start < end;
      });
      return listFolder(self, offset, prefixes.length, (i) => {
        const prefix = prefixes[i] as number;
        const entry = this.#folder(makeNode(node.high, NODE_KIND.prefix, prefix), FOR_EVER);
        return { name: prefix.toString(16).padStart(2, '0'), entry };
      });
    }
    if (nodeKind(node) !== NODE_KIND.prefix) throw new FuseError('ENOTDIR');
    const [start, end] = table.prefixRange(nodeNumber(node));
    const image = this.#image(node);
    return listFolder(self, offset, end - start, (i) => {
      const row = start + i;
      const direct = this.#options.access.isSmallDirect(image, row);
      return { name: table.digest(row).slice(2), entry: this.#objectEntry(image, row, direct) };
    });
  }

  statistics(): Statistics {
    const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(this.#options.folder);
    return { blockSize: bsize, blocks, freeBlocks: bfree, availableBlocks: bavail, files, freeFiles: ffree };
  }

  #image(node: NodeId): ImageEntry {
    const entry = this.#options.images.bySlot(node.high);
    if (entry === undefined) throw new FuseError('ENOENT');
    return entry;
  }

  #attributes(node: NodeId): Attributes {
    const kind = nodeKind(node);
    if (node.high === 0 || kind < NODE_KIND.cached) return { node, size: 0, mode: FOLDER_MODE, links: 2 };
    return { node, size: this.#image(node).table.size(nodeNumber(node)), mode: OBJECT_MODE, links: 1 };
  }

  #folder(node: NodeId, nameSeconds: number): Entry {
    return { attributes: { node, size: 0, mode: FOLDER_MODE, links: 2 }, nameSeconds, attributeSeconds: FOR_EVER };
  }

  #objectEntry({ table }: ImageEntry, row: number, direct: boolean): Entry {
    const node = makeNode(table.slot, direct ? NODE_KIND.direct : NODE_KIND.cached, row);
    return {
      attributes: { node, size: table.size(row), mode: OBJECT_MODE, links: 1 },
      nameSeconds: FOR_EVER,
      attributeSeconds: FOR_EVER,
    };
  }
}
