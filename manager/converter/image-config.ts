import { type Digest, digestOf, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { ImageManifest } from '../registry/manifest.ts';
import { formatPlatform, type Platform } from '../registry/platform.ts';
import { spliceJson } from './json-splice.ts';

/** An entry of a config's history; unknown fields stay. */
export type HistoryEntry = Readonly<Record<string, unknown>>;

/** What Gear reads of an image's config (OCI image specification, config.md). */
export interface ImageConfig {
  /** Verbatim. */
  readonly bytes: Buffer;
  readonly platform: Platform;
  readonly diffIds: readonly Digest[];
  readonly history: readonly HistoryEntry[];
  /** RFC 3339, as it stands there. */
  readonly created: string | undefined;
}

/** The `comment` of the history entry that a Gear layer has. */
export const GEAR_COMMENT = 'gear.v1';

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Reads the config of the image `name` and holds it against its manifest. Throws corrupt where they do not fit together, unsupported for Windows.
 */
export function parseConfig(bytes: Buffer, manifest: ImageManifest, name: string): ImageConfig {
  const corrupt = (why: string, cause?: unknown) => new GearError('corrupt', `${name}: ${why}`, { cause });
  if (digestOf(bytes) !== manifest.config.digest) {
    throw corrupt(
      `the config's digest is ${ociDigest(digestOf(bytes))}, the manifest says ${ociDigest(manifest.config.digest)}`,
    );
  }
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    throw corrupt('its config is not JSON', error);
  }
  if (!isObject(json)) throw corrupt('its config is not a JSON object');
  const text = (key: string) => (typeof json[key] === 'string' ? json[key] : '');
  const platform: Platform = {
    os: text('os') || 'linux',
    architecture: text('architecture'),
    variant: text('variant'),
  };
  if (platform.os !== 'linux') {
    throw new GearError(
      'unsupported',
      `${name}: an image for ${formatPlatform(platform)}; Gear converts images for linux only`,
    );
  }
  const rootfs = json['rootfs'];
  if (!isObject(rootfs) || rootfs['type'] !== 'layers' || !Array.isArray(rootfs['diff_ids'])) {
    throw corrupt('its config has no rootfs of layers');
  }
  const diffIds = rootfs['diff_ids'].map((value: unknown, i) => {
    if (typeof value !== 'string' || !/^sha256:[0-9a-f]{64}$/.test(value))
      throw corrupt(`diff id ${i + 1} of its config is no sha256 digest`);
    return parseDigest(value);
  });
  if (diffIds.length !== manifest.layers.length) {
    throw corrupt(`its manifest has ${manifest.layers.length} layers, its config ${diffIds.length}`);
  }
  const history = Array.isArray(json['history']) ? json['history'].filter(isObject) : [];
  const created = text('created');
  return { bytes, platform, diffIds, history, created: created === '' ? undefined : created };
}

/** Whether the image's lowest layer is a Gear layer, by what the history says. */
export function startsWithGearLayer(config: ImageConfig): boolean {
  return config.history.find((entry) => entry['empty_layer'] !== true)?.['comment'] === GEAR_COMMENT;
}

/** The config with other layers and another history; every other byte stays as it is. */
export function withLayers(bytes: Buffer, diffIds: readonly Digest[], history: readonly HistoryEntry[]): Buffer {
  const rootfs = spliceJson(bytes.toString('utf8'), ['rootfs', 'diff_ids'], diffIds.map(ociDigest));
  return Buffer.from(spliceJson(rootfs, ['history'], history));
}
