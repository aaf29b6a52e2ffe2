import type { DirectoryEntry } from '../kernel/fuse/directory.ts';
import type { Awaitable, Call, FileSystem, Opened } from '../kernel/fuse/file-system.ts';
import type { Attributes, Entry, Statistics } from '../kernel/fuse/reply.ts';
import { type NodeId, ROOT_NODE, type Uint64 } from '../kernel/fuse/request.ts';
import { isTreeNode, TREE_NODE } from './node-id.ts';

/** The one name at the root that is no image. */
const TREE_NAME = 'tree';

/** The mount: the images' objects, and in "tree" the images' trees. Whose node it is, its id says. */
export class RootFileSystem implements FileSystem {
  readonly #objects: FileSystem;
  readonly #trees: FileSystem;

  constructor(objects: FileSystem, trees: FileSystem) {
    this.#objects = objects;
    this.#trees = trees;
  }

  lookup(parent: NodeId, name: string, call: Call): Awaitable<Entry> {
    if (parent.high === ROOT_NODE.high && name === TREE_NAME) {
      const { attributes, seconds } = this.#trees.attributes(TREE_NODE);
      return { attributes, nameSeconds: seconds, attributeSeconds: seconds };
    }
    return this.#of(parent).lookup(parent, name, call);
  }

  attributes(node: NodeId): { attributes: Attributes; seconds: number } {
    return this.#of(node).attributes(node);
  }

  open(node: NodeId, call: Call): Awaitable<Opened> {
    return this.#of(node).open(node, call);
  }

  read(node: NodeId, offset: number, size: number, call: Call): Awaitable<readonly Uint8Array[]> {
    return this.#of(node).read(node, offset, size, call);
  }

  release(node: NodeId, handle: Uint64): void {
    this.#of(node).release(node, handle);
  }

  list(node: NodeId, offset: number): Iterable<DirectoryEntry> {
    return this.#of(node).list(node, offset);
  }

  statistics(): Statistics {
    return this.#objects.statistics();
  }

  readLink(node: NodeId): Uint8Array {
    const file = this.#trees.readLink?.(node);
    return file ?? Buffer.alloc(0);
  }

  // ENOSYS for an object would make the kernel stop asking for those of the trees too.
  extendedAttribute(node: NodeId, name: string): Uint8Array | undefined {
    return isTreeNode(node) ? this.#trees.extendedAttribute?.(node, name) : undefined;
  }

  extendedAttributeNames(node: NodeId): Uint8Array {
    return (isTreeNode(node) ? this.#trees.extendedAttributeNames?.(node) : undefined) ?? Buffer.alloc(0);
  }

  #of(node: NodeId): FileSystem {
    return isTreeNode(node) ? this.#trees : this.#objects;
  }
}
