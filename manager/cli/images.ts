import { type Command, EXIT, main, type Option } from '#core/cli/command.ts';
import { formatBytes, formatTable } from '#core/cli/table.ts';
import { ociDigest } from '#core/digest.ts';
import type { Connection } from '#core/grpc/client.ts';
import { ImagesService } from '#proto/gen/gear/v1/images.ts';
import { imageFromWire } from '../converter/image-wire.ts';
import { formatPlatform } from '../registry/platform.ts';
import type { ImageRecord } from '../store/record.ts';
import { ANSWER_TIMEOUT, withManager } from './reach.ts';
import { MANAGER_ADDRESS } from './registry-options.ts';

const OPTIONS = {
  manager: { type: 'string', value: 'HOST:PORT', default: MANAGER_ADDRESS, help: 'The manager' },
  json: { type: 'flag', help: 'Print a JSON list' },
} as const satisfies Readonly<Record<string, Option>>;

const HEADER = ['IMAGE', 'DIGEST', 'PLATFORM', 'LAYERS', 'ENTRIES', 'OBJECTS', 'SIZE', 'DEDUP', 'CONVERTED'];

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
  ];
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

const command: Command<typeof OPTIONS> = {
  name: 'images',
  summary: 'Lists the images that the manager has converted, the last one first.',
  options: OPTIONS,
  details: `
SIZE is what the distinct contents of the image's files have; DEDUP how much less that is than the files themselves have.`,
  async run(values, _operands, signal) {
    const images = await withManager(
      values.manager,
      async (connection) => await Array.fromAsync(listAll(connection, signal)),
    );
    const text = values.json
      ? JSON.stringify(images.map(imageJson), undefined, 2)
      : formatTable(HEADER, images.map(row));
    process.stdout.write(`${text}\n`);
    return EXIT.ok;
  },
};

if (import.meta.main) await main(command);
