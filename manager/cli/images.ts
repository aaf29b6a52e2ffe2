import { type Command, EXIT, main, type Option } from '#core/cli/command.ts';
import { formatBytes, formatTable } from '#core/cli/table.ts';
import { ociDigest } from '#core/digest.ts';
import type { Connection } from '#core/grpc/client.ts';
import { ACCESS_OPTIONS, accessOf } from '#core/security/access.ts';
import { ImagesService, WatchedTag_State as State, type WatchedTag } from '#proto/gen/gear/v1/images.ts';
import { imageFromWire } from '../converter/image-wire.ts';
import { progressFromWire } from '../converter/progress-wire.ts';
import { formatPlatform } from '../registry/platform.ts';
import type { ImageRecord } from '../store/record.ts';
import { convertLine } from './convert-progress.ts';
import { ANSWER_TIMEOUT, withManager } from './reach.ts';
import { MANAGER_ADDRESS } from './registry-options.ts';

const OPTIONS = {
  manager: { type: 'string', value: 'HOST:PORT', default: MANAGER_ADDRESS, help: 'The manager' },
  ...ACCESS_OPTIONS,
  json: { type: 'flag', help: 'Print a JSON list' },
} as const satisfies Readonly<Record<string, Option>>;

const HEADER = ['IMAGE', 'DIGEST', 'PLATFORM', 'LAYERS', 'ENTRIES', 'OBJECTS', 'SIZE', 'DEDUP', 'CONVERTED', 'STATE'];

/** All images of a manager, page by page. */
async function* listAll(connection: Connection, signal: AbortSignal): AsyncGenerator<ImageRecord, void, void> {
  let pageToken = '';
  do {
    const request = { pageSize: 0, pageToken };
    const page = await connection.unary(ImagesService.list, request, { signal, timeout: ANSWER_TIMEOUT });
    for (const image of page.images) yield imageFromWire(image);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
}

/** How much of the files' bytes is stored only once because files have the same content. */
function dedup({ fileBytes, objectBytes }: ImageRecord): string {
  return fileBytes === 0 ? '0 %' : `${Math.round((1 - objectBytes / fileBytes) * 100)} %`;
}

function row(image: ImageRecord): string[] {
  return [
    image.source,
    image.sourceDigest.slice(0, 12),
    formatPlatform(image.platform),
    String(image.layers.length),
    String(image.entries),
    String(image.objects),
    formatBytes(image.objectBytes),
    dedup(image),
    new Date(image.convertedAt).toISOString().slice(0, 16).replace('T', ' '),
    'ready',
  ];
}

/** The tags that are still to become images, or could not, page by page. */
async function* listPending(connection: Connection, signal: AbortSignal): AsyncGenerator<WatchedTag, void, void> {
  let pageToken = '';
  do {
    const request = { pageSize: 0, pageToken };
    const page = await connection.unary(ImagesService.listWatched, request, { signal, timeout: ANSWER_TIMEOUT });
    for (const tag of page.tags) if (tag.state in PENDING) yield tag;
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
}

const PENDING: Readonly<Partial<Record<State, string>>> = {
  [State.STATE_WAITING]: 'waiting',
  [State.STATE_CONVERTING]: 'converting',
  [State.STATE_FAILED]: 'failed',
};

function pendingRow(tag: WatchedTag): string[] {
  const again =
    tag.retryAt === 0n ? '' : `; tried again at ${new Date(Number(tag.retryAt)).toISOString().slice(11, 19)}`;
  const details: Readonly<Record<string, string>> = {
    converting: tag.progress === undefined ? '' : `: ${convertLine(progressFromWire(tag.progress), false)}`,
    failed: `: ${tag.error}${again}`,
  };
  const state = PENDING[tag.state] ?? '';
  const unknown = Array.from({ length: HEADER.length - 3 }, () => '');
  return [tag.source, tag.digest.slice(7, 19), ...unknown, `${state}${details[state] ?? ''}`];
}

/** What `--json` says of a tag that is no image yet. */
function pendingJson(tag: WatchedTag): Record<string, unknown> {
  return {
    source: tag.source,
    state: PENDING[tag.state],
    digest: tag.digest,
    progress: tag.progress === undefined ? null : progressFromWire(tag.progress),
    error: tag.error === '' ? null : tag.error,
    attempts: tag.attempts,
    retryAt: tag.retryAt === 0n ? null : new Date(Number(tag.retryAt)).toISOString(),
    changedAt: new Date(Number(tag.changedAt)).toISOString(),
  };
}

/** What `--json` says of an image; digests as OCI writes them, sizes in bytes. */
export function imageJson(image: ImageRecord): Record<string, unknown> {
  return {
    source: image.source,
    destination: image.destination,
    sourceDigest: ociDigest(image.sourceDigest),
    gearDigest: image.gearDigest === undefined ? null : ociDigest(image.gearDigest),
    platform: formatPlatform(image.platform),
    indexDigest: ociDigest(image.indexDigest),
    indexSize: image.indexSize,
    entries: image.entries,
    objects: image.objects,
    objectBytes: image.objectBytes,
    fileBytes: image.fileBytes,
    convertedAt: new Date(image.convertedAt).toISOString(),
    layers: image.layers.map((layer) => ({
      blobDigest: ociDigest(layer.blobDigest),
      diffId: ociDigest(layer.diffId),
      indexDigest: ociDigest(layer.indexDigest),
      blobSize: layer.blobSize,
      tarSize: layer.tarSize,
    })),
    warnings: image.warnings,
  };
}

const readyJson = (image: ImageRecord): Record<string, unknown> => ({ ...imageJson(image), state: 'ready' });

const command: Command<typeof OPTIONS> = {
  name: 'images',
  summary: 'Lists the images that the manager has converted, the last one first.',
  options: OPTIONS,
  details: `
Before them, what the monitor found in a watched registry and has not converted: waiting, converting, or failed and why.
SIZE is what the distinct contents of the image's files have; DEDUP how much less that is than the files themselves have.`,
  async run(values, _operands, signal) {
    const { pending, images } = await withManager(values.manager, accessOf(values), async (connection) => ({
      pending: await Array.fromAsync(listPending(connection, signal)),
      images: await Array.fromAsync(listAll(connection, signal)),
    }));
    const text = values.json
      ? JSON.stringify([...pending.map(pendingJson), ...images.map(readyJson)], undefined, 2)
      : formatTable(HEADER, [...pending.map(pendingRow), ...images.map(row)]);
    process.stdout.write(`${text}\n`);
    return EXIT.ok;
  },
};

if (import.meta.main) await main(command);
