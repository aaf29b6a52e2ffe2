import { rmSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { DIGEST_BYTES, type Digest, digestFromBytes, digestToBytes } from '#core/digest.ts';
import { decodeRecord, encodeRecord } from '../store/image-record.ts';
import type { ImageRecord, LayerRecord } from '../store/record.ts';
import { namesOf, type Wanted } from './names.ts';
import { SCHEMA, SCHEMA_VERSION, STATEMENTS } from './schema.ts';
import { WatchedTags } from './watched-tags.ts';

/** What is kept of an index without decoding it again. */
export interface IndexFacts {
  readonly digest: Digest;
  /** Bytes of its encoding. */
  readonly size: number;
  readonly kind: 'image' | 'layer';
  readonly entries: number;
  /** Digests and sizes of its objects. */
  readonly objects: ReadonlyMap<Digest, { readonly size: number }>;
}

export interface CataloguedImage {
  readonly id: string;
  readonly record: ImageRecord;
}

/** Where a page of the list ended. */
export interface PagePosition {
  readonly convertedAt: number;
  readonly id: string;
}

/**
 * A cache, in SQLite, of what images/ and indexes/ say, to answer questions that the files answer slowly. It may be deleted at any time while no
 * manager runs; so losing its last moments in a power cut does no harm.
 */
export class Catalog implements Disposable {
  readonly #database: DatabaseSync;
  readonly #statements: Readonly<Record<keyof typeof STATEMENTS, StatementSync>>;
  readonly watchedTags: WatchedTags;

  private constructor(database: DatabaseSync) {
    this.#database = database;
    this.watchedTags = new WatchedTags(database);
    const prepared = Object.entries(STATEMENTS).map(([name, sql]) => [name, database.prepare(sql)]);
    this.#statements = Object.fromEntries(prepared) as Record<keyof typeof STATEMENTS, StatementSync>;
  }

  /** Opens the catalogue at `path`. Where it is missing, unreadable or of another version, or if `fresh`, an empty one takes its place. */
  static open(path: string, fresh: boolean): Catalog {
    if (!fresh) {
      const existing = tryOpen(path);
      if (existing !== undefined) return new Catalog(existing);
    }
    for (const suffix of ['', '-wal', '-shm']) rmSync(path + suffix, { force: true });
    const database = configure(new DatabaseSync(path));
    database.exec(`BEGIN; ${SCHEMA} PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT;`);
    return new Catalog(database);
  }

  putIndex({ digest, size, kind, entries, objects }: IndexFacts): void {
    const digests = Buffer.alloc(objects.size * DIGEST_BYTES);
    let bytes = 0;
    let at = 0;
    for (const [object, facts] of objects) {
      at += digests.write(object, at, 'hex');
      bytes += facts.size;
    }
    this.#statements.putIndex.run(digestToBytes(digest), size, kind, entries, objects.size, bytes, digests);
  }

  removeIndex(digest: Digest): void {
    this.#statements.removeIndex.run(digestToBytes(digest));
  }

  hasIndex(digest: Digest): boolean {
    return this.#statements.hasIndex.get(digestToBytes(digest)) !== undefined;
  }

  indexDigests(): Digest[] {
    return digestsOf(this.#statements.indexDigests.all());
  }

  /** The digests of an index's objects, 32 bytes each; empty for an index that is not there (any longer). */
  objectDigests(index: Digest): Buffer {
    const row = this.#statements.indexObjects.get(digestToBytes(index));
    return row === undefined ? Buffer.alloc(0) : bufferOf(row['object_digests']);
  }

  /** The indexes that images need. */
  neededIndexes(): Digest[] {
    return digestsOf(this.#statements.neededIndexes.all());
  }

  putImage(id: string, record: ImageRecord): void {
    this.#transaction(() => {
      this.#statements.removeImage.run(id);
      const gearDigest = record.gearDigest === undefined ? null : digestToBytes(record.gearDigest);
      const row: SQLInputValue[] = [id, digestToBytes(record.sourceDigest), gearDigest, record.convertedAt];
      this.#statements.putImage.run(...row, encodeRecord(record));
      for (const name of [...namesOf(record.source), ...namesOf(record.destination)]) {
        this.#statements.putName.run(name, id);
      }
      this.#statements.putImageIndex.run(digestToBytes(record.indexDigest), id);
      for (const [position, layer] of record.layers.entries()) {
        this.#statements.putLayer.run(digestToBytes(layer.blobDigest), id, position);
        this.#statements.putLayer.run(digestToBytes(layer.diffId), id, position);
        this.#statements.putImageIndex.run(digestToBytes(layer.indexDigest), id);
      }
    });
  }

  removeImages(ids: readonly string[]): void {
    this.#transaction(() => {
      for (const id of ids) this.#statements.removeImage.run(id);
    });
  }

  allImages(): CataloguedImage[] {
    return this.#statements.allImages.all().map(imageOf);
  }

  imageIds(): string[] {
    return this.#statements.imageIds.all().map((row) => String(row['id']));
  }

  /** The images that are meant, the one converted last first. */
  find({ name, digest }: Wanted): CataloguedImage[] {
    const named = name === undefined ? [] : this.#statements.byName.all(name);
    if (named.length > 0 || digest === undefined) return named.map(imageOf);
    return this.#statements.byDigest.all(digestToBytes(digest)).map(imageOf);
  }

  /** A layer by its blob's digest or its diff id. */
  findLayer(digest: Digest): LayerRecord | undefined {
    const row = this.#statements.byLayer.get(digestToBytes(digest));
    return row === undefined ? undefined : recordOf(row).layers[Number(row['position'])];
  }

  /** Up to `count` images, the one converted last first, from behind `after` on. */
  page(after: PagePosition | undefined, count: number): CataloguedImage[] {
    const { convertedAt, id } = after ?? { convertedAt: Number.MAX_SAFE_INTEGER, id: '' };
    return this.#statements.page.all(convertedAt, id, count).map(imageOf);
  }

  /** `objects`: of all indexes together, so those that several have are counted several times. */
  totals(): { images: number; indexes: number; objects: number } {
    const row = this.#statements.totals.get();
    return { images: Number(row?.['images']), indexes: Number(row?.['indexes']), objects: Number(row?.['objects']) };
  }

  /** What the regular files of all images have together, each image counted by itself. Reads every record. */
  fileBytes(): number {
    return Number(this.#statements.fileBytes.get()?.['bytes']);
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  #transaction(work: () => void): void {
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      work();
      this.#database.exec('COMMIT');
    } catch (error) {
      this.#database.exec('ROLLBACK');
      throw error;
    }
  }
}

function configure(database: DatabaseSync): DatabaseSync {
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;');
  return database;
}

/** The catalogue that is there, if it can be used. */
function tryOpen(path: string): DatabaseSync | undefined {
  let database: DatabaseSync | undefined;
  try {
    database = configure(new DatabaseSync(path));
    const version = database.prepare('PRAGMA user_version').get()?.['user_version'];
    const check = database.prepare('PRAGMA quick_check(1)').get()?.['quick_check'];
    if (version === SCHEMA_VERSION && check === 'ok') return database;
  } catch {
    // Not a database, or one that a crash of the disk has damaged: it is only a cache.
  }
  database?.close();
  return undefined;
}

type Row = Record<string, unknown>;

function bufferOf(value: unknown): Buffer {
  const bytes = value as Uint8Array;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function digestsOf(rows: Row[]): Digest[] {
  return rows.map((row) => digestFromBytes(bufferOf(row['digest'])));
}

function recordOf(row: Row): ImageRecord {
  return decodeRecord(String(row['record']), 'catalogue');
}

function imageOf(row: Row): CataloguedImage {
  return { id: String(row['id']), record: recordOf(row) };
}
