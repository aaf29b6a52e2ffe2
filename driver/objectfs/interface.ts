import type { Digest } from '#core/digest.ts';
import type { LogLevel } from '#core/log.ts';
import type { Access } from '#core/security/access.ts';
import type { FetchChoice, FetchStats } from '../remote/manager-source.ts';

/** What may be changed while the object filesystem is mounted (`configure`). */
export interface ObjectFilesystemSettings {
  /** Where missing objects come from: "host:port" of the manager's gRPC. */
  readonly manager: string;
  /** How to get in there: names of files only, which its processes read themselves. Default: TLS and tokens are not used. */
  readonly access?: Access;
  /** Milliseconds after which a read whose bytes cannot be had fails with EIO. Default 60,000. */
  readonly deadline?: number;
  /** How many bytes the public cache may hold; unpinned objects beyond it are evicted, the least recently used first. 0 (default): no limit. */
  readonly cacheSize?: number;
  /** How missing objects are fetched. Default "auto". */
  readonly fetch?: FetchChoice;
  /** Whether what start-up profiles name is brought here before it is asked for. Default true. */
  readonly prefetch?: boolean;
  /** When what is asked for with `fill` is brought here: while nobody waits for anything else, or at once. Default "eager". */
  readonly fill?: 'idle' | 'eager';
  /** One prefetch in so many is watched in full, at the price of a slower start, so that profiles also lose what nobody needs; 0: none. Default 16. */
  readonly audit?: number;
  /** Milliseconds after an image's first touch, and without a new one, after which no more is recorded. Default 600,000 and 30,000. */
  readonly recordLongest?: number;
  readonly recordIdle?: number;
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
  readonly startUp: PrefetchStats;
}

/** What an image's start-up profile did for it, since the object filesystem's server started. */
export interface PrefetchStats {
  /** Whether first touches are being recorded, and how many were. */
  readonly recording: boolean;
  readonly recordedTouches: number;
  /** Milliseconds from the first mount until a reader last had to wait for bytes from afar, while it was recorded; 0: none had to. */
  readonly lastDemandMilliseconds: number;
  /** Whether the profile is on its way now. */
  readonly prefetching: boolean;
  /** Chunks that the manager said would come; undefined where there was no profile. */
  readonly plannedChunks: number | undefined;
  readonly prefetchedChunks: number;
  /** Bytes of these, and what they were on the wire. */
  readonly prefetchedBytes: number;
  readonly prefetchedWireBytes: number;
  readonly prefetchMilliseconds: number | undefined;
  /** Why there was no prefetch, or why it ended early. */
  readonly problem: string | undefined;
  /** Chunks that were prefetched and never touched; known only where this prefetch was watched in full. */
  readonly unusedChunks: number | undefined;
  /** Chunks that were touched and not in the profile. */
  readonly missedChunks: number | undefined;
}

/** First touches of an image, for the monitor: parallel lists in the order in which they happened. See ReportTouchesRequest in monitor.proto. */
export interface TouchReport {
  readonly image: Digest;
  readonly chunkSize: number;
  readonly first: boolean;
  readonly complete: boolean;
  readonly digests: readonly Digest[];
  readonly chunks: readonly number[];
  readonly milliseconds: readonly number[];
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
  /** Of the fetched bytes, those that a reader waited for; and when one last did, milliseconds since 1970, 0: never. */
  readonly demandBytes: number;
  readonly lastDemandAt: number;
  /** Chunks that a reader waited for and that were on their way already, with the start-up profile. */
  readonly joinedChunks: number;
  /** Bytes that came because a start-up profile names them, and what they were on the wire. Not among the fetched ones. */
  readonly prefetchedBytes: number;
  readonly prefetchedWireBytes: number;
  /** Answers whose bytes did not match their digest. */
  readonly mismatches: number;
  readonly errors: number;
  /** Bytes in `public/`, pinned or not; undefined while they are still being counted. */
  readonly cacheBytes: number | undefined;
  readonly evictedObjects: number;
  readonly evictedBytes: number;
  /** Whether the last attempts to reach the manager failed, so that only probes are sent. */
  readonly managerAway: boolean;
  /** Why; '' where it is not. */
  readonly managerAwayReason: string;
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
  /** Has what the image's start-up profile names brought here. Safe to repeat. */
  prefetch(image: Digest, options?: { readonly signal?: AbortSignal }): Promise<void>;
  /** The same for an image that is still being made, whose object table lies in the file `table` for the time being. */
  prefetchEarly(image: Digest, table: string, options?: { readonly signal?: AbortSignal }): Promise<void>;
  /** What images touched first, as far as it was not given yet. */
  takeTouches(options?: { readonly signal?: AbortSignal }): Promise<TouchReport[]>;
  /** Unmounts and ends its processes. Nothing else ends them. */
  stop(options?: { readonly signal?: AbortSignal }): Promise<void>;
}
