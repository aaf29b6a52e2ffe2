import type { Option } from '#core/cli/command.ts';
import { formatBytes, formatTable } from '#core/cli/table.ts';
import { type Digest, digestFromBytes, digestToBytes, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError, isGearError, messageOf } from '#core/errors.ts';
import { formatHostPort, parseHostPort } from '#core/grpc/address.ts';
import { connect } from '#core/grpc/client.ts';
import type { Access } from '#core/security/access.ts';
import { MonitorService, type Profile } from '#proto/gen/gear/v1/monitor.ts';
import { ANSWER_TIMEOUT } from './reach.ts';

const MONITOR_PORT = 2021;

/** The option of the commands that ask the monitor. */
export const MONITOR_OPTION = {
  type: 'string',
  value: 'HOST:PORT',
  help: `The monitor, for start-up profiles (default: port ${MONITOR_PORT} of the manager's host)`,
} as const satisfies Option;

/** Where the monitor is, beside the manager unless told otherwise. Throws invalid-argument. */
export function monitorOf({
  manager,
  monitor,
}: {
  readonly manager: string;
  readonly monitor: string | undefined;
}): string {
  return monitor ?? formatHostPort({ host: parseHostPort(manager, '--manager').host, port: MONITOR_PORT });
}

/** The start-up profile of an image; undefined where there is none. */
export async function readProfile(
  monitor: string,
  access: Access,
  image: Digest,
  signal: AbortSignal,
): Promise<Profile | undefined> {
  using connection = connect(monitor, '--monitor', access);
  const request = { image: ociDigest(image) };
  try {
    return await connection.unary(MonitorService.getProfile, request, { signal, timeout: ANSWER_TIMEOUT });
  } catch (error) {
    if (isGearError(error, 'not-found')) return undefined;
    throw error;
  }
}

interface ItemJson {
  readonly object: string;
  readonly chunk: number;
  readonly bytes: number;
  readonly milliseconds: number;
  readonly seen: number;
  readonly chances: number;
  readonly chosen: boolean;
}

export interface ProfileJson {
  readonly image: string;
  readonly chunkSize: number;
  readonly runs: number;
  readonly inheritedFrom: string;
  readonly updatedAt: string;
  /** Items that nodes are given, and their bytes; compressed, once that was done. */
  readonly chosen: number;
  readonly bytes: number;
  readonly preparedBytes: number;
  readonly items: readonly ItemJson[];
}

/** What `export` writes and `--json` shows. */
export function profileJson(profile: Profile): ProfileJson {
  const chosen = profile.items.filter((item) => item.chosen);
  return {
    image: profile.image,
    chunkSize: profile.chunkSize,
    runs: profile.runs,
    inheritedFrom: profile.inheritedFrom,
    updatedAt: new Date(Number(profile.updatedAt)).toISOString(),
    chosen: chosen.length,
    bytes: chosen.reduce((sum, { bytes }) => sum + bytes, 0),
    preparedBytes: Number(profile.preparedBytes),
    items: profile.items.map(({ digest, ...item }) => ({ object: ociDigest(digestFromBytes(digest)), ...item })),
  };
}

/** Reads what `export` wrote, for `image`. Throws invalid-argument. */
export function profileFromJson(text: string, image: Digest): Profile {
  try {
    const json = JSON.parse(text) as ProfileJson;
    return {
      image: ociDigest(image),
      chunkSize: json.chunkSize,
      runs: json.runs,
      inheritedFrom: json.inheritedFrom,
      updatedAt: 0n,
      preparedBytes: 0n,
      items: json.items.map(({ object, chunk, bytes, milliseconds, seen, chances }) => ({
        digest: digestToBytes(parseDigest(object)),
        ...{ chunk, bytes, milliseconds, seen, chances },
        chosen: false,
      })),
    };
  } catch (error) {
    throw new GearError('invalid-argument', `not an exported start-up profile: ${messageOf(error)}`, { cause: error });
  }
}

/** One line for `gear inspect`. */
export function profileLine(profile: ProfileJson): string {
  const packed = profile.preparedBytes === 0 ? '' : `, ${formatBytes(profile.preparedBytes)} compressed`;
  const from = profile.inheritedFrom === '' ? '' : `, begun as that of ${profile.inheritedFrom}`;
  return `${profile.chosen} chunks (${formatBytes(profile.bytes)}${packed}) from ${profile.runs} runs${from}`;
}

/** The text of `gear profile show`. */
export function profileText(profile: ProfileJson): string {
  const rows = profile.items.map(({ object, chunk, bytes, milliseconds, seen, chances, chosen }) => [
    object.slice(7, 19),
    String(chunk),
    formatBytes(bytes),
    `${milliseconds} ms`,
    `${seen}/${chances}`,
    chosen ? 'yes' : 'no',
  ]);
  const facts = [
    `Image:       ${profile.image}`,
    `Start-up:    ${profileLine(profile)}`,
    `Updated:     ${profile.updatedAt}`,
  ];
  return `${facts.join('\n')}\n\n${formatTable(['OBJECT', 'CHUNK', 'BYTES', 'AFTER', 'RUNS', 'CHOSEN'], rows)}`;
}
