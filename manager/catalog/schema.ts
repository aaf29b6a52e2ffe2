/** Changes with every change of the tables; a catalogue of another version is made again from the store. */
export const SCHEMA_VERSION = 1;

/** Digests are kept as their 32 bytes; times as milliseconds since 1970. */
export const SCHEMA = `
  CREATE TABLE indexes (
    digest BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    kind TEXT NOT NULL,
    entries INTEGER NOT NULL,
    objects INTEGER NOT NULL,
    object_bytes INTEGER NOT NULL,
    -- The digests of its objects, 32 bytes each, concatenated.
    object_digests BLOB NOT NULL
  ) STRICT;

  CREATE TABLE images (
    id TEXT PRIMARY KEY,
    source_digest BLOB NOT NULL,
    gear_digest BLOB,
    converted_at INTEGER NOT NULL,
    -- As in images/<id>.json.
    record TEXT NOT NULL
  ) STRICT;
  CREATE INDEX images_by_source ON images (source_digest);
  CREATE INDEX images_by_gear ON images (gear_digest);
  CREATE INDEX images_by_time ON images (converted_at DESC, id);

  CREATE TABLE image_names (
    name TEXT NOT NULL,
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (name, image)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX image_names_by_image ON image_names (image);

  -- A layer by the digest of its blob and by its diff id.
  CREATE TABLE layers (
    digest BLOB NOT NULL,
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    PRIMARY KEY (digest, image, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX layers_by_image ON layers (image);

  -- The indexes that an image needs: its own and its layers'.
  CREATE TABLE image_indexes (
    index_digest BLOB NOT NULL,
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (index_digest, image)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX image_indexes_by_image ON image_indexes (image);
`;

/** Every statement of the catalogue, prepared once. */
export const STATEMENTS = {
  putIndex: 'INSERT OR REPLACE INTO indexes VALUES (?, ?, ?, ?, ?, ?, ?)',
  removeIndex: 'DELETE FROM indexes WHERE digest = ?',
  hasIndex: 'SELECT 1 FROM indexes WHERE digest = ?',
  indexDigests: 'SELECT digest FROM indexes ORDER BY digest',
  indexObjects: 'SELECT object_digests FROM indexes WHERE digest = ?',
  neededIndexes: 'SELECT DISTINCT index_digest AS digest FROM image_indexes',
  totals: `SELECT (SELECT count(*) FROM images) AS images, (SELECT count(*) FROM indexes) AS indexes,
    (SELECT coalesce(sum(objects), 0) FROM indexes) AS objects`,
  fileBytes: "SELECT coalesce(sum(record ->> '$.fileBytes'), 0) AS bytes FROM images",
  removeImage: 'DELETE FROM images WHERE id = ?',
  putImage: 'INSERT INTO images VALUES (?, ?, ?, ?, ?)',
  putName: 'INSERT OR IGNORE INTO image_names VALUES (?, ?)',
  putLayer: 'INSERT OR IGNORE INTO layers VALUES (?, ?, ?)',
  putImageIndex: 'INSERT OR IGNORE INTO image_indexes VALUES (?, ?)',
  allImages: 'SELECT id, record FROM images ORDER BY id',
  imageIds: 'SELECT id FROM images ORDER BY id',
  byName: 'SELECT id, record FROM images JOIN image_names ON image = id WHERE name = ? ORDER BY converted_at DESC, id',
  byDigest: 'SELECT id, record FROM images WHERE source_digest = ?1 OR gear_digest = ?1 ORDER BY converted_at DESC, id',
  byLayer:
    'SELECT record, position FROM layers JOIN images ON image = id WHERE digest = ? ORDER BY converted_at DESC, id LIMIT 1',
  page: `SELECT id, converted_at, record FROM images
    WHERE converted_at < ?1 OR (converted_at = ?1 AND id > ?2) ORDER BY converted_at DESC, id LIMIT ?3`,
} as const;
