import { GearError } from '#core/errors.ts';
import type { Change, CreateOptions, DriverOptions, IdMap } from './driver.ts';

// Docker's graphdriver plugin protocol, version 1.2: moby 20.10, daemon/graphdriver/proxy.go (shapes) and pkg/plugins (transport). Every
// call is a POST to `/GraphDriver.NAME`; requests and answers are JSON unless said otherwise.

export const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json';
export const IMPLEMENTS = 'GraphDriver';

export const CALLS = [
  'Init',
  'Create',
  'CreateReadWrite',
  'Remove',
  'Get',
  'Put',
  'Exists',
  'Status',
  'GetMetadata',
  'Cleanup',
  'Diff',
  'Changes',
  'ApplyDiff',
  'DiffSize',
  'Capabilities',
] as const;
export type Call = (typeof CALLS)[number];

/** What most calls send. */
export interface PluginRequest {
  readonly ID?: string;
  readonly Parent?: string;
  readonly MountLabel?: string;
  readonly StorageOpt?: Readonly<Record<string, string>>;
}

/** What every call but Diff answers. `Code` and `Reason` are ours; Docker ignores them. */
export interface PluginResponse {
  readonly Err?: string;
  readonly Code?: string;
  readonly Reason?: string;
  readonly Implements?: readonly string[];
  readonly Dir?: string;
  readonly Exists?: boolean;
  readonly Status?: readonly (readonly [string, string])[];
  readonly Changes?: readonly WireChange[];
  readonly Size?: number;
  readonly Metadata?: Readonly<Record<string, string>>;
  readonly Capabilities?: { readonly ReproducesExactDiffs: boolean };
}

/** A path is text here, so what is not UTF-8 in it is lost, as it is between Docker and any driver. */
export interface WireChange {
  readonly Path: string;
  readonly Kind: number;
}

export function changeToWire({ path, kind }: Change): WireChange {
  return { Path: Buffer.from(path, 'latin1').toString('utf8'), Kind: kind };
}

export function changeFromWire({ Path, Kind }: WireChange): Change {
  if (Kind !== 0 && Kind !== 1 && Kind !== 2) {
    throw new GearError('corrupt', `the plugin told an unknown kind of change: ${JSON.stringify(Kind)} of ${Path}`);
  }
  return { path: Buffer.from(Path, 'utf8').toString('latin1'), kind: Kind };
}

type Json = Readonly<Record<string, unknown>>;

/** The JSON object of a body; an empty body is an empty object. Throws invalid-argument. */
export function parseBody(body: Buffer | undefined): Json {
  const text = body === undefined ? '' : body.toString('utf8').trim();
  if (text === '') return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new GearError('invalid-argument', 'the request is not JSON', { cause: error });
  }
  // Go encodes a nil request so.
  if (value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new GearError('invalid-argument', 'the request is not a JSON object');
  }
  return value as Json;
}

function textOf(json: Json, field: string): string {
  const value = json[field] ?? '';
  if (typeof value !== 'string') throw new GearError('invalid-argument', `the request's ${field} is not a string`);
  return value;
}

function listOf(json: Json, field: string): readonly unknown[] {
  const value = json[field] ?? [];
  if (!Array.isArray(value)) throw new GearError('invalid-argument', `the request's ${field} is not a list`);
  return value;
}

/** `ID`, `Parent` and `MountLabel`, not checked but for their type. */
export function parseRequest(json: Json): { id: string; parent: string; mountLabel: string } {
  return { id: textOf(json, 'ID'), parent: textOf(json, 'Parent'), mountLabel: textOf(json, 'MountLabel') };
}

export function parseStorageOpt(json: Json): CreateOptions['storageOpt'] {
  const value = json['StorageOpt'] ?? {};
  const sound = typeof value === 'object' && !Array.isArray(value);
  if (!sound || !Object.values(value).every((each) => typeof each === 'string')) {
    throw new GearError('invalid-argument', "the request's StorageOpt is not an object of strings");
  }
  return value as Record<string, string>;
}

export function parseInit(json: Json): DriverOptions {
  const options = listOf(json, 'Opts').map((option) => {
    if (typeof option !== 'string') throw new GearError('invalid-argument', 'Init has an option that is no string');
    return option;
  });
  return {
    home: textOf(json, 'Home'),
    options,
    uidMaps: listOf(json, 'UIDMaps').map(parseIdMap),
    gidMaps: listOf(json, 'GIDMaps').map(parseIdMap),
  };
}

function parseIdMap(value: unknown): IdMap {
  const { container_id, host_id, size } = (value ?? {}) as Record<string, unknown>;
  if (typeof container_id !== 'number' || typeof host_id !== 'number' || typeof size !== 'number') {
    throw new GearError('invalid-argument', 'Init has an id map without container_id, host_id and size');
  }
  return { containerId: container_id, hostId: host_id, size };
}

export function idMapToWire({ containerId, hostId, size }: IdMap): Json {
  return { container_id: containerId, host_id: hostId, size };
}
