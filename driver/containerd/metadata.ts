import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { GearError } from '#core/errors.ts';

export type SnapshotKind = 'view' | 'active' | 'committed';
export type Labels = Readonly<Record<string, string>>;

/** Why a layer that has an index elsewhere is unpacked here. */
export interface Ordinary {
  /** The image as containerd named it; '' where it said nothing. */
  readonly image: string;
  readonly reason: string;
}

/** A snapshot as containerd knows it. */
export interface Snapshot {
  /** Names the layer's folder; no other snapshot of this node ever has it. */
  readonly id: number;
  /** Key of an active snapshot or a view, name of a committed one. */
  readonly name: string;
  readonly parentId: number | undefined;
  /** '' where there is none. */
  readonly parent: string;
  readonly kind: SnapshotKind;
  /** In which namespace it was made. Keys are unique over all of them: containerd puts its namespaces into them. */
  readonly namespace: string;
  /** Nanoseconds since 1970. */
  readonly created: bigint;
  readonly updated: bigint;
  readonly labels: Labels;
  /** Of a committed one whose files are its own. */
  readonly usage: Usage | undefined;
  readonly ordinary: Ordinary | undefined;
}

export interface Usage {
  /** Bytes. */
  readonly size: number;
  readonly inodes: number;
}

export type NewSnapshot = Omit<Snapshot, 'parent' | 'updated'>;

const VERSION = 1;
const SCHEMA = `
  CREATE TABLE snapshot (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES snapshot (id),
    kind TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),
    namespace TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    labels TEXT NOT NULL,
    size INTEGER,
    inodes INTEGER,
    image TEXT,
    reason TEXT
  ) STRICT;
  CREATE INDEX snapshot_parent ON snapshot (parent);
  PRAGMA user_version = ${VERSION};
`;
const SELECT =
  'SELECT snapshot.*, above.name AS parent_name FROM snapshot LEFT JOIN snapshot AS above ON above.id = snapshot.parent';

/**
 * The rows of the snapshots, in SQLite. Everything here happens at once: what is done within one transaction() is seen by others as a whole or not at
 * all, and is on the disk when that returns.
 */
export class SnapshotMetadata implements Disposable {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  private constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Opens the file, made where it is missing. Throws corrupt for what is not such a file, unsupported for one of a later version. */
  static open(file: string): SnapshotMetadata {
    const database = new DatabaseSync(file, { timeout: 5000, readBigInts: true });
    try {
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON');
      const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
      if (version > VERSION) {
        throw new GearError('unsupported', `${file} was written by a later Gear (version ${version} of its tables)`);
      }
      if (version === 0) database.exec(`BEGIN; ${SCHEMA} COMMIT`);
      return new SnapshotMetadata(database);
    } catch (error) {
      database.close();
      if (error instanceof GearError) throw error;
      throw new GearError('corrupt', `${file} is not the driver's list of snapshots`, { cause: error });
    }
  }

  [Symbol.dispose](): void {
    this.#statements.clear();
    this.#database.close();
  }

  /** `work` must not wait for anything. What it throws undoes it. */
  transaction<T>(work: () => T): T {
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      const result = work();
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      // SQLite itself has undone what failed for a full disk.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }

  /** The highest id that was ever given. */
  lastId(): number {
    return Number(this.#one("SELECT seq FROM sqlite_sequence WHERE name = 'snapshot'")?.['seq'] ?? 0n);
  }

  find(name: string): Snapshot | undefined {
    const row = this.#one(`${SELECT} WHERE snapshot.name = ?`, name);
    return row === undefined ? undefined : snapshotOf(row);
  }

  /** Throws not-found. */
  get(name: string): Snapshot {
    const snapshot = this.find(name);
    if (snapshot === undefined) throw new GearError('not-found', `snapshot ${name} does not exist`);
    return snapshot;
  }

  byId(id: number): Snapshot | undefined {
    const row = this.#one(`${SELECT} WHERE snapshot.id = ?`, id);
    return row === undefined ? undefined : snapshotOf(row);
  }

  /** Up to `limit` snapshots with higher ids than `after`, ascending. */
  page(after: number, limit: number): Snapshot[] {
    return this.#statement(`${SELECT} WHERE snapshot.id > ? ORDER BY snapshot.id LIMIT ?`)
      .all(after, limit)
      .map(snapshotOf);
  }

  /** All, in the order of their ids: each behind its parent. */
  *all(): Generator<Snapshot> {
    for (let after = 0; ; ) {
      const page = this.page(after, 500);
      yield* page;
      const last = page.at(-1);
      if (last === undefined) return;
      after = last.id;
    }
  }

  /** The snapshots whose names start with this; its last character must not be the highest that there is. */
  named(prefix: string): Snapshot[] {
    const end = prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
    return this.#statement(`${SELECT} WHERE snapshot.name >= ? AND snapshot.name < ?`).all(prefix, end).map(snapshotOf);
  }

  hasChildren(id: number): boolean {
    return this.#one('SELECT 1 FROM snapshot WHERE parent = ? LIMIT 1', id) !== undefined;
  }

  /** Throws already-exists for a name that is taken. */
  insert(snapshot: NewSnapshot): void {
    this.#checkFree(snapshot.name);
    const { id, name, parentId, kind, namespace, created, labels, usage, ordinary } = snapshot;
    this.#run(
      'INSERT INTO snapshot (id, name, parent, kind, namespace, created, updated, labels, size, inodes, image, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      ...[id, name, parentId ?? null, kind, namespace, created, created, JSON.stringify(labels)],
      ...[usage?.size ?? null, usage?.inodes ?? null, ordinary?.image ?? null, ordinary?.reason ?? null],
    );
  }

  /** An active snapshot becomes a committed one. Throws already-exists for a name that is taken. */
  commit(id: number, name: string, facts: { created: bigint; labels: Labels; usage: Usage }): void {
    this.#checkFree(name);
    const { created, labels, usage } = facts;
    this.#run(
      "UPDATE snapshot SET name = ?, kind = 'committed', created = ?, updated = ?, labels = ?, size = ?, inodes = ? WHERE id = ?",
      ...[name, created, created, JSON.stringify(labels), usage.size, usage.inodes, id],
    );
  }

  setLabels(id: number, labels: Labels, updated: bigint): void {
    this.#run('UPDATE snapshot SET labels = ?, updated = ? WHERE id = ?', JSON.stringify(labels), updated, id);
  }

  remove(id: number): void {
    this.#run('DELETE FROM snapshot WHERE id = ?', id);
  }

  #checkFree(name: string): void {
    if (this.find(name) !== undefined) throw new GearError('already-exists', `snapshot ${name} already exists`);
  }

  #statement(sql: string): StatementSync {
    return this.#statements.getOrInsertComputed(sql, () => this.#database.prepare(sql));
  }

  #one(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#statement(sql).get(...values);
  }

  #run(sql: string, ...values: SQLInputValue[]): void {
    this.#statement(sql).run(...values);
  }
}

type Row = Record<string, SQLOutputValue>;

function snapshotOf(row: Row): Snapshot {
  const { parent, parent_name: parentName, size, inodes, image, reason } = row;
  return {
    id: Number(row['id']),
    name: String(row['name']),
    parentId: parent === null ? undefined : Number(parent),
    parent: parentName === null ? '' : String(parentName),
    kind: row['kind'] as SnapshotKind,
    namespace: String(row['namespace']),
    created: row['created'] as bigint,
    updated: row['updated'] as bigint,
    labels: JSON.parse(String(row['labels'])) as Labels,
    usage: size === null ? undefined : { size: Number(size), inodes: Number(inodes) },
    ordinary: reason === null ? undefined : { image: String(image ?? ''), reason: String(reason) },
  };
}
