import type { Digest } from '#core/digest.ts';
import type { LogLevel } from '#core/log.ts';
import type { FetchChoice, FetchStats } from '../remote/manager-source.ts';

/** What may be changed while the object filesystem is mounted (`configure`). */
export interface ObjectFilesystemSettings {
  /** Where missing objects come from: "host:port" of the manager's gRPC. */
  readonly manager: string;
  /** Milliseconds after which a read whose bytes cannot be had fails with EIO. Default 60,000. */
  readonly deadline?: number;
  /** How many bytes the public cache may hold; unpinned objects beyond it are evicted, the least recently used first. 0 (default): no limit. */
  readonly cacheSize?: number;
  /** How missing objects are fetched. Default "auto". */
  readonly fetch?: FetchChoice;
  /** Default "info". At "trace" each message of the kernel makes a line. */
  readonly logLevel?: LogLevel;
}

/** One image, since the object filesystem's server started unless said otherwise. */
export interface ImageStats {
  /** Digest of the image's index. */
  readonly image: Digest;
  readonly objects: number;
  readonly bytes: number;
  /** What lies in `private/<image>` now, whoever put it there and when. */
  readonly touchedObjects: number;
  /** Bytes of the touched objects, each counted whole. */
  readonly touchedBytes: number;
  /** First touches that `public/` could answer. */
  readonly fromPublic: number;
  /** First touches for which bytes had to come from afar. */
  readonly fromRemote: number;
  /** Bytes that came from afar for this image. */
  readonly fetchedBytes: number;
  /** Requests of the kernel that failed with EIO or ENOSPC. */
  readonly errors: number;
}

export interface ObjectFilesystemStats {
  readonly version: string;
  readonly supervisor: number;
  readonly server: number;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  /** Whether the kernel reads complete objects without asking us. */
  readonly passthrough: boolean;
  readonly settings: Required<ObjectFilesystemSettings>;
  readonly images: readonly ImageStats[];
  /** Requests of the kernel that wait for bytes now, and for how many milliseconds the oldest has waited. */
  readonly inFlight: number;
  readonly oldestMilliseconds: number;
  /** Objects that the kernel holds open for reading past us. */
  readonly openPassthrough: number;
  readonly fetchedObjects: number;
  readonly fetchedBytes: number;
  readonly fetches: number;
  /** Answers whose bytes did not match their digest. */
  readonly mismatches: number;
  readonly errors: number;
  /** Bytes in `public/`, pinned or not; undefined while they are still being counted. */
  readonly cacheBytes: number | undefined;
  readonly evictedObjects: number;
  readonly evictedBytes: number;
  /** Whether the last attempts to reach the manager failed, so that only probes are sent. */
  readonly managerAway: boolean;
  /** The ways to the manager, and what each has done since the server's process started. */
  readonly fetch: FetchStats;
  /** The image that is being brought here as a whole. */
  readonly filling?: Digest | undefined;
  /** Resident bytes of the server's process. */
  readonly residentBytes: number;
}

/**
 * The node's object filesystem, mounted at `<root>/remote`. An image appears in it as soon as `<root>/images/<image>/objects` is there and is
 * gone soon after that file is removed. It lives on when the process that holds this value ends.
 */
export interface ObjectFilesystem {
  readonly mountPoint: string;
  /** Whether it was running already. */
  readonly adopted: boolean;
  /** `<root>/remote/<image>`: what overlay takes as its last data-only layer. */
  imageFolder(image: Digest): string;
  /**
   * `<root>/remote/tree/<image>`: the image's whole tree, read from `images/<image>/index`; an ordinary lower layer where overlay has no data-only ones
   * (before kernel 6.5).
   */
  treeFolder(image: Digest): string;
  /** `<root>/private/<image>`: the data-only layer in front of it; the folder is made where it is missing. */
  privateFolder(image: Digest): Promise<string>;
  stats(options?: { readonly signal?: AbortSignal }): Promise<ObjectFilesystemStats>;
  /** Takes effect at once, reads in flight included; the mount stays. */
  configure(settings: Partial<ObjectFilesystemSettings>, options?: { readonly signal?: AbortSignal }): Promise<void>;
  /** Brings all of an image's objects here in the background. Safe to repeat; who wants to know when it is done looks at the image's private cache. */
  fill(image: Digest, options?: { readonly signal?: AbortSignal }): Promise<void>;
  /** Unmounts and ends its processes. Nothing else ends them. */
  stop(options?: { readonly signal?: AbortSignal }): Promise<void>;
}
