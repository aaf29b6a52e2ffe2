import { statfsSync } from 'node:fs';
import { deadline } from '#core/abort.ts';
import { isDigest } from '#core/digest.ts';
import { isErrno, isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { isSmall } from '../cache/object.ts';
import type { ObjectCache } from '../cache/object-cache.ts';
import type { DirectoryEntry } from '../kernel/fuse/directory.ts';
import { FuseError } from '../kernel/fuse/errno.ts';
import type { Call, FileSystem, Opened } from '../kernel/fuse/file-system.ts';
import { OPEN_FLAGS } from '../kernel/fuse/flags.ts';
import type { Attributes, Entry, Statistics } from '../kernel/fuse/reply.ts';
import { type NodeId, ROOT_NODE, type Uint64 } from '../kernel/fuse/request.ts';
import type { DirectOpens } from './direct-opens.ts';
import type { ImageEntries } from './image-entries.ts';
import type { ImageEntry } from './image-entry.ts';
import { listFolder } from './listing.ts';
import { makeNode, NODE_KIND, nodeKind, nodeNumber } from './node-id.ts';

/** Objects never change, and neither does what a digest names. */
const FOR_EVER = 365 * 24 * 3600;
/** Images come and go. */
const IMAGE_NAME_SECONDS = 1;

const FOLDER_MODE = 0o040555;
const OBJECT_MODE = 0o100444;
const NO_HANDLE: Uint64 = { high: 0, low: 0 };

export interface ObjectFileSystemOptions {
  readonly images: ImageEntries;
  readonly cache: ObjectCache;
  readonly opens: DirectOpens;
  readonly log: Logger;
  /** Any path of the caches' filesystem, whose size and room are shown as ours. */
  readonly folder: string;
  /** Milliseconds that a read may wait for its bytes. */
  readonly deadline: () => number;
  /** Whether the kernel can read complete objects past us; asked when the first object is looked up. */
  readonly passthrough: () => boolean;
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
        return this.#objectEntry(entry, row, this.#isDirect(entry, row));
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
    switch (nodeKind(node)) {
      case NODE_KIND.cached:
        this.#touch(entry, nodeNumber(node));
        return { handle: NO_HANDLE, flags: OPEN_FLAGS.KEEP_CACHE };
      case NODE_KIND.direct: {
        const backingId = this.#options.opens.join(node, call.number);
        return backingId === undefined ? this.#openDirect(entry, node, call) : this.#opened(node, call, backingId);
      }
      default:
        throw new FuseError('EISDIR');
    }
  }

  async read(node: NodeId, offset: number, size: number, call: Call): Promise<Uint8Array[]> {
    const entry = this.#image(node);
    if (nodeKind(node) < NODE_KIND.cached) throw new FuseError('EISDIR');
    const object = entry.object(nodeNumber(node));
    return await this.#withDeadline(entry, object.digest, call.signal, async (signal) => {
      const { bytes, fetched } = await this.#options.cache.read(entry.image, object, offset, size, { signal });
      entry.fetchedBytes += fetched;
      return [bytes];
    });
  }

  release(node: NodeId, handle: Uint64): void {
    if (nodeKind(node) === NODE_KIND.direct) this.#options.opens.release(node, handle);
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
      // To be listed is not to be touched; which of its two nodes an object gets must not depend on the caches then.
      const direct = this.#options.passthrough() && isSmall(image.object(row));
      return { name: table.digest(row).slice(2), entry: this.#objectEntry(image, row, direct) };
    });
  }

  statistics(): Statistics {
    const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(this.#options.folder);
    return { blockSize: bsize, blocks, freeBlocks: bfree, availableBlocks: bavail, files, freeFiles: ffree };
  }

  /**
   * Whether the kernel is to read the object past us. Looking up is all that happens here: overlayfs looks for the contents also for a chmod or a
   * rename, which must not fetch them.
   */
  #isDirect(entry: ImageEntry, row: number): boolean {
    const { cache, passthrough } = this.#options;
    const object = entry.object(row);
    return passthrough() && (isSmall(object) || cache.isHere(entry.image, object));
  }

  /** Notes a touch, which is an open, and pins the object where it is on this node. */
  #touch(entry: ImageEntry, row: number): void {
    const object = entry.object(row);
    const first = entry.touch(row);
    let here = false;
    try {
      here = this.#options.cache.pin(entry.image, object);
    } catch (error) {
      // A full disk, mostly: reading makes room, or fails with the right error.
      this.#options.log.debug({ image: entry.image, object: object.digest }, `not pinned yet: ${messageOf(error)}`);
    }
    if (first && here) entry.fromPublic++;
    if (first && !here) entry.fromRemote++;
  }

  async #openDirect(entry: ImageEntry, node: NodeId, call: Call): Promise<Opened> {
    const { cache, opens } = this.#options;
    const row = nodeNumber(node);
    const object = entry.object(row);
    this.#touch(entry, row);
    return await this.#withDeadline(entry, object.digest, call.signal, async (signal) => {
      const fetched = cache.isPinned(entry.image, object) ? 0 : await cache.whole(entry.image, object, { signal });
      entry.fetchedBytes += fetched;
      return this.#opened(node, call, opens.open(node, call.number, cache.pinnedFile(entry.image, object)));
    });
  }

  #opened(node: NodeId, call: Call, backingId: number): Opened {
    const handle = call.number;
    const undelivered = () => this.#options.opens.release(node, handle);
    return { handle, flags: OPEN_FLAGS.PASSTHROUGH, backingId, undelivered };
  }

  async #withDeadline<T>(
    entry: ImageEntry,
    digest: string,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    using limited = deadline(this.#options.deadline(), `object ${digest} of image ${entry.image}`, signal);
    try {
      return await work(limited);
    } catch (error) {
      // Whoever asked is being killed.
      if (error instanceof FuseError) throw error;
      entry.errors++;
      const errno = isErrno(error, 'ENOSPC', 'EDQUOT') ? 'ENOSPC' : 'EIO';
      const code = isGearError(error) ? error.code : isErrno(error) ? error.code : undefined;
      this.#options.log.error({ image: entry.image, object: digest, code, errno }, messageOf(error));
      throw new FuseError(errno, messageOf(error), { cause: error });
    }
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
