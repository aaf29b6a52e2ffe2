import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { type Digest, digestFromBytes, digestToBytes } from '#core/digest.ts';

/** `ignored`: left alone, because it is a Gear image already, or no image at all. */
export type TagState = 'waiting' | 'converting' | 'ready' | 'failed' | 'ignored';

/** What the monitor knows of one tag of a registry. Times in milliseconds since 1970. */
export interface WatchedTag {
  /** In skopeo's words: "docker://host/name:tag". */
  readonly source: string;
  /** Why it is known: a registry is watched, or somebody pulled it through the registry endpoint. */
  readonly origin: 'watch' | 'pull';
  readonly state: TagState;
  /** What the tag named when it was last looked at: a manifest, or a multi-arch list. */
  readonly digest: Digest;
  /** Of the image that it was last converted from: the source digest of that image's record. */
  readonly imageDigest: Digest | undefined;
  /** Attempts that failed since it was last ready. */
  readonly attempts: number;
  /** Why the last attempt failed, or why it is ignored; empty otherwise. */
  readonly error: string;
  /** When the next attempt comes; undefined: none does by itself. */
  readonly retryAt: number | undefined;
  /** When the state last changed. */
  readonly changedAt: number;
  /** Since when the registry does not have it any longer; undefined: it does. */
  readonly goneAt: number | undefined;
}

/** The 1 is the version: another layout takes another name. What is lost with it is found again by looking at the registry. */
const TABLE = 'watched_tags_1';

/** The tags that the monitor knows, in the catalogue. A cache of what the registry and the store say, so that a restart need not begin from nothing. */
export class WatchedTags {
  readonly #put: StatementSync;
  readonly #remove: StatementSync;
  readonly #all: StatementSync;

  constructor(database: DatabaseSync) {
    database.exec(`CREATE TABLE IF NOT EXISTS ${TABLE} (
      source TEXT PRIMARY KEY, origin TEXT NOT NULL, state TEXT NOT NULL, digest BLOB NOT NULL, image_digest BLOB,
      attempts INTEGER NOT NULL, error TEXT NOT NULL, retry_at INTEGER, changed_at INTEGER NOT NULL, gone_at INTEGER
    ) STRICT, WITHOUT ROWID`);
    this.#put = database.prepare(`INSERT OR REPLACE INTO ${TABLE} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`);
    this.#remove = database.prepare(`DELETE FROM ${TABLE} WHERE source = ?`);
    this.#all = database.prepare(`SELECT * FROM ${TABLE} ORDER BY changed_at, source`);
  }

  put(tag: WatchedTag): void {
    const imageDigest = tag.imageDigest === undefined ? null : digestToBytes(tag.imageDigest);
    this.#put.run(
      ...[tag.source, tag.origin, tag.state, digestToBytes(tag.digest), imageDigest, tag.attempts, tag.error],
      ...[tag.retryAt ?? null, tag.changedAt, tag.goneAt ?? null],
    );
  }

  remove(source: string): void {
    this.#remove.run(source);
  }

  /** Every tag, the one whose state changed longest ago first. */
  all(): WatchedTag[] {
    return this.#all.all().map((row) => ({
      source: String(row['source']),
      origin: row['origin'] === 'pull' ? 'pull' : 'watch',
      state: row['state'] as TagState,
      digest: digestFromBytes(row['digest'] as Uint8Array),
      imageDigest: row['image_digest'] === null ? undefined : digestFromBytes(row['image_digest'] as Uint8Array),
      attempts: Number(row['attempts']),
      error: String(row['error']),
      retryAt: row['retry_at'] === null ? undefined : Number(row['retry_at']),
      changedAt: Number(row['changed_at']),
      goneAt: row['gone_at'] === null ? undefined : Number(row['gone_at']),
    }));
  }
}
