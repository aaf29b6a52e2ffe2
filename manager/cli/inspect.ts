import { once } from 'node:events';
import { type Command, EXIT, main, type Option } from '#core/cli/command.ts';
import { formatBytes, formatTable } from '#core/cli/table.ts';
import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { GearError, messageOf } from '#core/errors.ts';
import type { Connection } from '#core/grpc/client.ts';
import { decodeIndex } from '#core/index/encode.ts';
import { type Tree, walk } from '#core/index/tree.ts';
import { ACCESS_OPTIONS, type Access, accessOf } from '#core/security/access.ts';
import { ImagesService } from '#proto/gen/gear/v1/images.ts';
import { imageFromWire } from '../converter/image-wire.ts';
import { formatPlatform, parsePlatform } from '../registry/platform.ts';
import type { ImageRecord } from '../store/record.ts';
import { formatFile, listFiles } from './file-list.ts';
import { imageJson } from './images.ts';
import { MONITOR_OPTION, monitorOf, type ProfileJson, profileJson, profileLine, readProfile } from './profile-view.ts';
import { ANSWER_TIMEOUT, withManager } from './reach.ts';
import { MANAGER_ADDRESS } from './registry-options.ts';

const OPTIONS = {
  manager: { type: 'string', value: 'HOST:PORT', default: MANAGER_ADDRESS, help: 'The manager' },
  monitor: MONITOR_OPTION,
  ...ACCESS_OPTIONS,
  platform: { type: 'string', value: 'OS/ARCH[/VARIANT]', help: 'Which of the images of this name' },
  index: { type: 'flag', help: 'Say what the index has, by type' },
  files: { type: 'flag', help: 'List every name, as ls -l does' },
  json: { type: 'flag', help: "Print JSON, with the image's config" },
} as const satisfies Readonly<Record<string, Option>>;

/** The tree of an image, read from its manager and verified. */
async function readTree(connection: Connection, index: Digest, signal: AbortSignal): Promise<Tree> {
  const pieces: Buffer[] = [];
  const request = { digest: ociDigest(index) };
  for await (const { data } of connection.serverStream(ImagesService.getIndex, request, { signal, timeout: 600_000 })) {
    pieces.push(data);
  }
  const bytes = Buffer.concat(pieces);
  if (digestOf(bytes) !== index) {
    throw new GearError('corrupt', `index ${ociDigest(index)}: ${connection.address} sent other bytes`);
  }
  return decodeIndex(bytes);
}

function countTypes(tree: Tree): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { inode } of walk(tree.root)) counts[inode.type] = (counts[inode.type] ?? 0) + 1;
  return counts;
}

function describe(image: ImageRecord, startUp: ProfileJson | string): string[] {
  const gear = image.gearDigest === undefined ? '(none)' : ociDigest(image.gearDigest);
  const facts = [
    ['Source', image.source],
    ['Digest', ociDigest(image.sourceDigest)],
    ['Gear image', image.destination === '' ? '(none)' : image.destination],
    ['Gear digest', gear],
    ['Platform', formatPlatform(image.platform)],
    ['Converted', new Date(image.convertedAt).toISOString()],
    ['Index', `${ociDigest(image.indexDigest)} (${formatBytes(image.indexSize)})`],
    ['Entries', String(image.entries)],
    ['Files', formatBytes(image.fileBytes)],
    ['Objects', `${image.objects} (${formatBytes(image.objectBytes)})`],
    ['Start-up', typeof startUp === 'string' ? startUp : profileLine(startUp)],
  ] as const;
  const layers = image.layers.map(({ diffId, indexDigest, blobSize, tarSize }, at) => [
    String(at + 1),
    diffId.slice(0, 12),
    indexDigest.slice(0, 12),
    formatBytes(blobSize),
    formatBytes(tarSize),
  ]);
  return [
    ...facts.map(([name, value]) => `${`${name}:`.padEnd(13)}${value}`),
    '',
    formatTable(['LAYER', 'DIFF ID', 'INDEX', 'BLOB', 'TAR'], layers),
    ...image.warnings.map((warning) => `warning: ${warning}`),
  ];
}

/** The config as JSON where it is some, which it always is in a valid image. */
function configOf({ config }: ImageRecord): unknown {
  try {
    return JSON.parse(config.toString('utf8'));
  } catch {
    return config.toString('base64');
  }
}

/** Writes a line to standard output, no faster than it is read. */
async function print(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain');
}

interface Shown {
  readonly image: ImageRecord;
  readonly startUp: ProfileJson | string;
  readonly tree: Tree | undefined;
}

/** The image's start-up profile, or why there is none. */
async function startUpOf(
  monitor: string,
  access: Access,
  image: Digest,
  signal: AbortSignal,
): Promise<ProfileJson | string> {
  try {
    const profile = await readProfile(monitor, access, image, signal);
    return profile === undefined ? 'not learned yet' : profileJson(profile);
  } catch (error) {
    signal.throwIfAborted();
    return `not known, for no monitor answers at ${monitor}: ${messageOf(error)}`;
  }
}

async function printText({ image, startUp, tree }: Shown, index: boolean, files: boolean): Promise<void> {
  for (const line of describe(image, startUp)) await print(line);
  if (tree === undefined) return;
  if (index) {
    await print('');
    await print(
      formatTable(
        ['TYPE', 'NAMES'],
        Object.entries(countTypes(tree)).map(([type, n]) => [type, String(n)]),
      ),
    );
    await print(`chunks of ${formatBytes(tree.chunkSize)}`);
  }
  if (!files) return;
  await print('');
  for (const file of listFiles(tree)) await print(formatFile(file));
}

const command: Command<typeof OPTIONS> = {
  name: 'inspect',
  summary: 'Shows one converted image.',
  operands: 'IMAGE',
  operandCount: [1, 1],
  options: OPTIONS,
  details: `
IMAGE is the name of the source or of the Gear image, with or without its transport, or the digest of either's manifest.`,
  async run(values, [reference = ''], signal) {
    const platform = values.platform === undefined ? undefined : parsePlatform(values.platform);
    const access = accessOf(values);
    return await withManager(values.manager, access, async (connection) => {
      const request = { reference, platform };
      const answer = await connection.unary(ImagesService.resolve, request, { signal, timeout: ANSWER_TIMEOUT });
      const image = imageFromWire(answer);
      const tree = values.index || values.files ? await readTree(connection, image.indexDigest, signal) : undefined;
      const startUp = await startUpOf(monitorOf(values), access, image.indexDigest, signal);
      if (values.json) {
        const index =
          tree === undefined || !values.index ? {} : { index: { chunkSize: tree.chunkSize, types: countTypes(tree) } };
        const files = tree === undefined || !values.files ? {} : { files: [...listFiles(tree)] };
        await print(
          JSON.stringify({ ...imageJson(image), startUp, config: configOf(image), ...index, ...files }, undefined, 2),
        );
      } else await printText({ image, startUp, tree }, values.index, values.files);
      return EXIT.ok;
    });
  },
};

if (import.meta.main) await main(command);
