/** What an index, or the tree made from a layer, may contain at most. Each limit has its own error. */
export interface IndexLimits {
  /** Names, the root and whiteouts included. */
  readonly entries: number;
  /** Bytes of a name. */
  readonly nameBytes: number;
  /** Bytes of a path from the root. */
  readonly pathBytes: number;
  /** Directories above an entry, the root not counted. */
  readonly depth: number;
  /** Bytes of a symlink's target. */
  readonly targetBytes: number;
  /** Extended attributes of one inode. */
  readonly xattrs: number;
  readonly xattrNameBytes: number;
  readonly xattrBytes: number;
  /** Bytes of all files together. */
  readonly totalBytes: number;
}

/** Where Linux has a limit of its own (names, paths, targets, attributes), that one; else far more than any image has. */
export const DEFAULT_INDEX_LIMITS: IndexLimits = {
  entries: 4_000_000,
  nameBytes: 255,
  pathBytes: 4096,
  depth: 1024,
  targetBytes: 4095,
  xattrs: 1024,
  xattrNameBytes: 255,
  xattrBytes: 64 * 1024,
  totalBytes: 4096 * 1024 ** 3,
};

/** Bytes of a chunk, at least and at most: a power of two, so that chunks lie on pages and a chunk can be verified in memory. */
export const MIN_CHUNK_SIZE = 4096;
export const MAX_CHUNK_SIZE = 16 * 1024 * 1024;

/** Linux's device numbers: 12 bits and 20 bits. */
export const MAX_MAJOR = 2 ** 12 - 1;
export const MAX_MINOR = 2 ** 20 - 1;
/** Linux keeps -1 for "no such owner". */
export const MAX_ID = 2 ** 32 - 2;
