import { createHash } from 'node:crypto';
import { type Digest, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError, messageOf } from '#core/errors.ts';
import type { ImageRecord, LayerRecord } from './record.ts';

const VERSION = 1;

/**
 * The name of an image's record: what makes it another image than the rest. Converting the same source again gives the same record
 * unless the source, or what became of it, has changed.
 */
export function imageId({ source, destination, sourceDigest, gearDigest, indexDigest }: ImageRecord): string {
  const rest = createHash('sha256').update(JSON.stringify([source, destination, gearDigest ?? '', indexDigest]));
  return `${sourceDigest}-${rest.digest('hex').slice(0, 16)}`;
}

/** The record as the JSON of images/<id>.json. */
export function encodeRecord(record: ImageRecord): string {
  const layer = ({ blobDigest, diffId, indexDigest, blobSize, tarSize, linkedBelow, warnings }: LayerRecord) => ({
    blobDigest: ociDigest(blobDigest),
    diffId: ociDigest(diffId),
    indexDigest: ociDigest(indexDigest),
    blobSize,
    tarSize,
    linkedBelow,
    warnings,
  });
  const value = {
    version: VERSION,
    source: record.source,
    destination: record.destination,
    sourceDigest: ociDigest(record.sourceDigest),
    gearDigest: record.gearDigest === undefined ? null : ociDigest(record.gearDigest),
    platform: record.platform,
    indexDigest: ociDigest(record.indexDigest),
    indexSize: record.indexSize,
    layers: record.layers.map(layer),
    objects: record.objects,
    objectBytes: record.objectBytes,
    fileBytes: record.fileBytes,
    entries: record.entries,
    configMediaType: record.configMediaType,
    configBase64: record.config.toString('base64'),
    convertedAt: record.convertedAt,
    warnings: record.warnings,
  };
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

/** Reads such a JSON; `path` names it. Throws corrupt, and unsupported for another version. */
export function decodeRecord(text: string, path: string): ImageRecord {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new GearError('corrupt', `${path}: ${messageOf(error)}`, { cause: error });
  }
  const fields = new Fields(json, path);
  const version = fields.count('version');
  if (version !== VERSION) throw new GearError('unsupported', `${path}: version ${version} is not known here`);
  const platform = fields.object('platform');
  return {
    source: fields.text('source'),
    destination: fields.text('destination'),
    sourceDigest: fields.digest('sourceDigest'),
    gearDigest: fields.isNull('gearDigest') ? undefined : fields.digest('gearDigest'),
    platform: {
      os: platform.text('os'),
      architecture: platform.text('architecture'),
      variant: platform.text('variant'),
    },
    indexDigest: fields.digest('indexDigest'),
    indexSize: fields.count('indexSize'),
    layers: fields.list('layers').map((value) => {
      const layer = new Fields(value, path);
      return {
        blobDigest: layer.digest('blobDigest'),
        diffId: layer.digest('diffId'),
        indexDigest: layer.digest('indexDigest'),
        blobSize: layer.count('blobSize'),
        tarSize: layer.count('tarSize'),
        linkedBelow: layer.flag('linkedBelow'),
        warnings: layer.list('warnings').map(String),
      };
    }),
    objects: fields.count('objects'),
    objectBytes: fields.count('objectBytes'),
    fileBytes: fields.count('fileBytes'),
    entries: fields.count('entries'),
    config: Buffer.from(fields.text('configBase64'), 'base64'),
    configMediaType: fields.text('configMediaType'),
    convertedAt: fields.count('convertedAt'),
    warnings: fields.list('warnings').map(String),
  };
}

/** Reads the fields of a JSON object, naming what is wrong. */
class Fields {
  readonly #value: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(value: unknown, path: string) {
    this.#path = path;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) this.#refuse('a value', 'an object');
    this.#value = value as Record<string, unknown>;
  }

  isNull(name: string): boolean {
    return this.#value[name] === null;
  }

  text(name: string): string {
    const value = this.#value[name];
    return typeof value === 'string' ? value : this.#refuse(name, 'a text');
  }

  count(name: string): number {
    const value = this.#value[name];
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
      ? value
      : this.#refuse(name, 'a whole number');
  }

  digest(name: string): Digest {
    try {
      return parseDigest(this.text(name));
    } catch (error) {
      throw new GearError('corrupt', `${this.#path}: "${name}": ${messageOf(error)}`, { cause: error });
    }
  }

  flag(name: string): boolean {
    const value = this.#value[name];
    return typeof value === 'boolean' ? value : this.#refuse(name, 'true or false');
  }

  list(name: string): unknown[] {
    const value = this.#value[name];
    return Array.isArray(value) ? value : this.#refuse(name, 'a list');
  }

  object(name: string): Fields {
    return new Fields(this.#value[name], this.#path);
  }

  #refuse(name: string, wanted: string): never {
    throw new GearError('corrupt', `${this.#path}: ${JSON.stringify(name)} is not ${wanted}`);
  }
}
