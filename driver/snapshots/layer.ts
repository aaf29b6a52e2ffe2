import { join } from 'node:path';
import { type Digest, isDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';

/** What is kept of a layer beside its files, in `<layer>/layer.json`. */
export interface LayerRecord {
  readonly version: 1;
  readonly id: string;
  /** '' is no parent. */
  readonly parent: string;
  /** A container's layer; otherwise an image's. */
  readonly readWrite: boolean;
  /** Set for a Gear layer: whoever stands on it sees this image instead of the layer's own files. */
  readonly image?: Digest;
}

/** A layer's folders, as overlay2 names them. */
export interface Layer extends LayerRecord {
  readonly folder: string;
  readonly diff: string;
  readonly work: string;
  readonly merged: string;
}

/** The layer of a record that lies in `home`. */
export function layerIn(home: string, record: LayerRecord): Layer {
  const folder = join(home, record.id);
  return { ...record, folder, diff: join(folder, 'diff'), work: join(folder, 'work'), merged: join(folder, 'merged') };
}

/** Reads `layer.json`. Throws corrupt, naming the layer. */
export function parseLayerRecord(text: string, id: string): LayerRecord {
  let record: unknown;
  try {
    record = JSON.parse(text);
  } catch (error) {
    throw new GearError('corrupt', `layer ${id}: layer.json is not JSON`, { cause: error });
  }
  const { version, id: own, parent, readWrite, image } = (record ?? {}) as Partial<Record<keyof LayerRecord, unknown>>;
  const sound =
    version === 1 &&
    own === id &&
    typeof parent === 'string' &&
    typeof readWrite === 'boolean' &&
    (image === undefined || (typeof image === 'string' && isDigest(image)));
  if (!sound) throw new GearError('corrupt', `layer ${id}: layer.json does not describe this layer`);
  return record as LayerRecord;
}
