import type { DirectoryEntry } from './directory.ts';
import type { Attributes, Entry, Statistics } from './reply.ts';
import type { NodeId, Uint64 } from './request.ts';

export type Awaitable<T> = T | Promise<T>;

/** The request that a handler answers. */
export interface Call {
  /** The same when the kernel sends the request again to another process: a handle made of it names the open file for ever. */
  readonly number: Uint64;
  /** Aborts when the thread that asked is being killed, and when the mount is gone. */
  readonly signal: AbortSignal;
}

/** The answer to OPEN. */
export interface Opened {
  /** What READ and RELEASE will name. */
  readonly handle: Uint64;
  /** OPEN_FLAGS */
  readonly flags: number;
  /** With OPEN_FLAGS.PASSTHROUGH: what `backingOpen` gave. */
  readonly backingId?: number;
  /** Called when nobody was there any more to take the answer: no RELEASE will come. */
  undelivered?(): void;
}

/**
 * A read-only file system. Handlers answer at once or later; they throw a FuseError for its errno, anything else is EIO and logged. A
 * handler that is missing is ENOSYS: for most operations the kernel then never asks again. Names are one character a byte.
 */
export interface FileSystem {
  lookup(parent: NodeId, name: string, call: Call): Awaitable<Entry>;
  /** Attributes, and for how many seconds the kernel may believe them. */
  attributes(node: NodeId): { readonly attributes: Attributes; readonly seconds: number };
  open(node: NodeId, call: Call): Awaitable<Opened>;
  /** At most `size` bytes from `offset`, fewer only at the end of the file. The pieces are sent one after the other. */
  read(node: NodeId, offset: number, size: number, call: Call): Awaitable<readonly Uint8Array[]>;
  /** The open file that `handle` named is gone. Comes again when the process is killed before the reply. */
  release(node: NodeId, handle: Uint64): void;
  /** The names of a directory from `offset` on: 0, or what `next` of an entry said. */
  list(node: NodeId, offset: number): Iterable<DirectoryEntry>;
  statistics(): Statistics;
  readLink?(node: NodeId): Uint8Array;
  /** The value of an extended attribute, undefined where there is none. */
  extendedAttribute?(node: NodeId, name: string): Uint8Array | undefined;
  /** All names, each with a NUL behind it. */
  extendedAttributeNames?(node: NodeId): Uint8Array;
}
