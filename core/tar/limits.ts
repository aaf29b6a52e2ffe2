import { GearError } from '../errors.ts';

/** What a stranger's tar may contain at most. Each limit has its own error. */
export interface TarLimits {
  /** Entries of the tar, extension headers not counted. */
  readonly entries: number;
  /** Bytes of an entry's path. */
  readonly pathBytes: number;
  /** Bytes of one component of a path. */
  readonly nameBytes: number;
  /** Components of a path. */
  readonly depth: number;
  /** Bytes of a link's target. */
  readonly linkBytes: number;
  /** Extended attributes of one entry. */
  readonly xattrs: number;
  /** Bytes of an extended attribute's name. */
  readonly xattrNameBytes: number;
  /** Bytes of an extended attribute's value. */
  readonly xattrBytes: number;
  /** Bytes of one PAX header. */
  readonly paxBytes: number;
  /** Extension headers (PAX, GNU long names) in front of one entry. */
  readonly extensions: number;
  /** Data regions of one sparse file. */
  readonly sparseRegions: number;
  /** Bytes of holes in all sparse files together: a tar of a kilobyte can declare as many as it likes. */
  readonly holeBytes: number;
  /** Bytes of all contents together, holes included. */
  readonly totalBytes: number;
}

const GiB = 1024 ** 3;

/** Where Linux has a limit of its own (paths, names, attributes), that one; else far more than any image has. */
export const DEFAULT_TAR_LIMITS: TarLimits = {
  entries: 4_000_000,
  pathBytes: 4096,
  nameBytes: 255,
  depth: 1024,
  linkBytes: 4096,
  xattrs: 1024,
  xattrNameBytes: 255,
  xattrBytes: 64 * 1024,
  paxBytes: 1024 * 1024,
  extensions: 16,
  sparseRegions: 256 * 1024,
  holeBytes: 64 * GiB,
  totalBytes: 4096 * GiB,
};

/** The error for what is more than `limit` allows; `what` says of which entry, and how much there is. */
export function overLimit(limit: string, allowed: number, what: string): GearError {
  return new GearError('resource-exhausted', `${what}: the limit (${limit}) is ${allowed}`, {
    fields: { limit, allowed },
  });
}
