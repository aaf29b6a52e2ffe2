import { type Command, EXIT, main, type Option } from '#core/cli/command.ts';
import { ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { type Connection, connect } from '#core/grpc/client.ts';
import { createLogger, LOG_LEVELS } from '#core/log.ts';
import { ACCESS_OPTIONS, accessOf } from '#core/security/access.ts';
import { ImagesService } from '#proto/gen/gear/v1/images.ts';
import { convertImage } from '../converter/convert.ts';
import { imageFromWire } from '../converter/image-wire.ts';
import { progressFromWire } from '../converter/progress-wire.ts';
import { destinationFor } from '../converter/publish.ts';
import { RemoteTarget } from '../converter/remote-target.ts';
import type { ConversionRequest, ConversionResult, ConvertProgress } from '../converter/request.ts';
import { openScratch } from '../converter/scratch.ts';
import { formatPlatform, parsePlatform } from '../registry/platform.ts';
import { type ImageReference, parseReference } from '../registry/reference.ts';
import { convertLine } from './convert-progress.ts';
import { formatBytes, ProgressView, progressStyle } from './progress-view.ts';
import { MANAGER_ADDRESS, REGISTRY_OPTIONS, registryAccess, scratchFolder } from './registry-options.ts';

const OPTIONS = {
  manager: { type: 'string', value: 'HOST:PORT', default: MANAGER_ADDRESS, help: 'The manager' },
  ...ACCESS_OPTIONS,
  platform: {
    type: 'string',
    value: 'OS/ARCH[/VARIANT]',
    help: 'Which image of a multi-arch list (default: for the machine that converts)',
  },
  local: { type: 'flag', help: 'Convert on this machine, and upload what the manager lacks' },
  'no-push': { type: 'flag', help: 'Make the index and the objects only, no Gear image' },
  force: { type: 'flag', help: 'Convert again even if nothing has changed' },
  ...REGISTRY_OPTIONS,
  json: { type: 'flag', help: 'Print progress and result as JSON, a line each' },
  quiet: { type: 'flag', short: 'q', help: 'Print only the result' },
  'log-level': { type: 'choice', choices: LOG_LEVELS, default: 'warn', help: 'What is logged with --local' },
} as const satisfies Readonly<Record<string, Option>>;

type OnProgress = (progress: ConvertProgress) => void;

/** Images of a daemon, a layout or an archive are this machine's own, and so is such a destination. */
function isLocal(source: ImageReference, destination: ImageReference | undefined): boolean {
  return source.transport !== 'docker' || (destination !== undefined && destination.transport !== 'docker');
}

async function convertInManager(
  connection: Connection,
  request: ConversionRequest,
  signal: AbortSignal,
  onProgress: OnProgress,
): Promise<ConversionResult> {
  const message = {
    source: request.source,
    destination: request.destination ?? '',
    platform: request.platform,
    force: request.force ?? false,
    noPush: request.noPush ?? false,
  };
  for await (const progress of connection.serverStream(ImagesService.convert, message, { signal })) {
    onProgress(progressFromWire(progress));
    if (progress.image !== undefined) return { image: imageFromWire(progress.image), unchanged: progress.unchanged };
  }
  throw new GearError('internal', `the manager at ${connection.address} ended the conversion without a result`);
}

function jsonResult({ image, unchanged }: ConversionResult, seconds: number): object {
  return {
    phase: 'done',
    unchanged,
    seconds,
    source: image.source,
    destination: image.destination,
    platform: formatPlatform(image.platform),
    sourceDigest: ociDigest(image.sourceDigest),
    gearDigest: image.gearDigest === undefined ? null : ociDigest(image.gearDigest),
    indexDigest: ociDigest(image.indexDigest),
    indexSize: image.indexSize,
    entries: image.entries,
    objects: image.objects,
    objectBytes: image.objectBytes,
    fileBytes: image.fileBytes,
    layers: image.layers.map(({ blobDigest, diffId, indexDigest, blobSize, tarSize }) => ({
      blobDigest: ociDigest(blobDigest),
      diffId: ociDigest(diffId),
      indexDigest: ociDigest(indexDigest),
      blobSize,
      tarSize,
    })),
    warnings: image.warnings,
  };
}

function textResult(
  { image, unchanged }: ConversionResult,
  last: ConvertProgress | undefined,
  seconds: number,
): string {
  const lines = [`${image.source} -> ${image.destination === '' ? '(no Gear image written)' : image.destination}`];
  if (image.gearDigest !== undefined) lines.push(`  image    ${ociDigest(image.gearDigest)}`);
  lines.push(
    `  index    ${ociDigest(image.indexDigest)} (${image.entries} names, ${formatBytes(image.indexSize)})`,
    `  objects  ${image.objects} (${formatBytes(image.objectBytes)}), new ${last?.newObjects ?? 0} (${formatBytes(last?.newBytes ?? 0)})`,
    `  ${unchanged ? 'unchanged' : 'converted'} in ${seconds.toFixed(1)} s`,
  );
  return `${lines.join('\n')}\n`;
}

const command: Command<typeof OPTIONS> = {
  name: 'convert',
  summary: 'Converts an image to a Gear image: its files go to the manager, a small image in its place to DESTINATION.',
  operands: 'SOURCE [DESTINATION]',
  operandCount: [1, 2],
  details: `
SOURCE is docker://HOST/NAME:TAG (or just HOST/NAME:TAG), docker-daemon:NAME:TAG, oci:FOLDER:TAG or docker-archive:FILE[:NAME:TAG].
DESTINATION is docker://HOST/NAME:TAG, docker-daemon:NAME:TAG or oci:FOLDER:TAG; by default the source's name with "-gear" added to it.

The manager converts images of registries, with its own credentials; images of this machine's daemon, of layouts and of archives are
converted here, as with --local. --authfile, --insecure-registry, --docker-host and --scratch are for what is done here.`,
  options: OPTIONS,
  async run(values, [source = '', destination], signal) {
    const noPush = values['no-push'];
    if (noPush && destination !== undefined)
      throw new GearError('invalid-argument', '--no-push leaves nothing to write to a destination');
    const reference = parseReference(source);
    const target = noPush ? undefined : destinationFor(reference, destination);
    const platform = values.platform === undefined ? undefined : parsePlatform(values.platform);
    const request = { source, destination, platform, force: values.force, noPush };
    const local = values.local || isLocal(reference, target);
    if (!local && (values.authfile !== undefined || values['insecure-registry'].length > 0)) {
      process.stderr.write(
        'note: --authfile and --insecure-registry are for conversions on this machine (--local); the manager has its own\n',
      );
    }
    using connection = connect(values.manager, '--manager', accessOf(values));
    let last: ConvertProgress | undefined;
    const start = performance.now();
    let result: ConversionResult;
    {
      using view = new ProgressView(progressStyle(values), convertLine);
      const onProgress = (progress: ConvertProgress) => {
        last = progress;
        if (progress.phase !== 'done') view.show(progress);
      };
      if (local) {
        const log = createLogger('convert', values['log-level']);
        const scratch = scratchFolder(values);
        await using spools = await openScratch(scratch);
        result = await convertImage(request, {
          target: new RemoteTarget(connection, spools.temporary),
          scratch,
          access: registryAccess(values),
          log,
          signal,
          onProgress,
        });
      } else result = await convertInManager(connection, request, signal, onProgress);
    }
    const seconds = (performance.now() - start) / 1000;
    process.stdout.write(
      values.json ? `${JSON.stringify(jsonResult(result, seconds))}\n` : textResult(result, last, seconds),
    );
    if (!values.json) for (const warning of result.image.warnings) process.stderr.write(`warning: ${warning}\n`);
    return EXIT.ok;
  },
};

if (import.meta.main) await main(command);
