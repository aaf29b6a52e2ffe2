import { type Command, EXIT, main, type Option } from '#core/cli/command.ts';
import { ociDigest } from '#core/digest.ts';
import { connect } from '#core/grpc/client.ts';
import { createLogger, LOG_LEVELS } from '#core/log.ts';
import { ACCESS_OPTIONS, accessOf } from '#core/security/access.ts';
import { type ExportProgress, type ExportResult, exportImage } from '../converter/export.ts';
import { parsePlatform } from '../registry/platform.ts';
import { amountLine, formatBytes, ProgressView, progressStyle } from './progress-view.ts';
import { MANAGER_ADDRESS, REGISTRY_OPTIONS, registryAccess, scratchFolder } from './registry-options.ts';

const OPTIONS = {
  manager: { type: 'string', value: 'HOST:PORT', default: MANAGER_ADDRESS, help: 'The manager that has the files' },
  ...ACCESS_OPTIONS,
  platform: {
    type: 'string',
    value: 'OS/ARCH[/VARIANT]',
    help: 'Which image of a multi-arch list (default: for this machine)',
  },
  ...REGISTRY_OPTIONS,
  json: { type: 'flag', help: 'Print progress and result as JSON, a line each' },
  quiet: { type: 'flag', short: 'q', help: 'Print only the result' },
  'log-level': { type: 'choice', choices: LOG_LEVELS, default: 'warn', help: 'What is logged' },
} as const satisfies Readonly<Record<string, Option>>;

const PHASES: Readonly<Record<ExportProgress['phase'], string>> = {
  resolve: 'looking up the image',
  fetch: 'fetching the image',
  objects: 'fetching files',
  push: 'writing the ordinary image',
};

function exportLine({ phase, doneBytes, totalBytes }: ExportProgress, bar: boolean): string {
  if (phase === 'objects') return `${PHASES[phase]}  ${amountLine(doneBytes, totalBytes, bar)}`;
  return phase === 'fetch' ? `${PHASES[phase]}  ${formatBytes(doneBytes)}` : PHASES[phase];
}

function jsonResult(result: ExportResult, seconds: number): object {
  const { source, destination, digest, imageId, indexDigest, fileBytes } = result;
  const digests = { digest: ociDigest(digest), imageId: ociDigest(imageId), indexDigest: ociDigest(indexDigest) };
  return { phase: 'done', source, destination, ...digests, fileBytes, seconds };
}

function textResult({ source, destination, digest, imageId, fileBytes }: ExportResult, seconds: number): string {
  return [
    `${source} -> ${destination}`,
    `  image    ${ociDigest(digest)}`,
    `  id       ${ociDigest(imageId)}`,
    `  exported ${formatBytes(fileBytes)} of files in ${seconds.toFixed(1)} s`,
    '',
  ].join('\n');
}

const command: Command<typeof OPTIONS> = {
  name: 'export',
  summary: 'Makes an ordinary image again from a Gear image, or from an image built on one.',
  operands: 'IMAGE DESTINATION',
  operandCount: [2, 2],
  details: `
IMAGE is docker://HOST/NAME:TAG (or just HOST/NAME:TAG), docker-daemon:NAME:TAG, oci:FOLDER:TAG or docker-archive:FILE[:NAME:TAG];
DESTINATION likewise. The result has the same files and the same configuration, and needs no Gear where it runs.`,
  options: OPTIONS,
  async run(values, [source = '', destination = ''], signal) {
    const platform = values.platform === undefined ? undefined : parsePlatform(values.platform);
    using connection = connect(values.manager, '--manager', accessOf(values));
    const start = performance.now();
    let result: ExportResult;
    {
      using view = new ProgressView(progressStyle(values), exportLine);
      result = await exportImage(
        { source, destination, platform },
        {
          connection,
          scratch: scratchFolder(values),
          access: registryAccess(values),
          log: createLogger('export', values['log-level']),
          signal,
          onProgress: (progress) => view.show(progress),
        },
      );
    }
    const seconds = (performance.now() - start) / 1000;
    process.stdout.write(
      values.json ? `${JSON.stringify(jsonResult(result, seconds))}\n` : textResult(result, seconds),
    );
    return EXIT.ok;
  },
};

if (import.meta.main) await main(command);
