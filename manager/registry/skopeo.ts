import { execa } from 'execa';
import { GearError, isErrno } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { RegistryAccess } from './access.ts';
import { daemonHost } from './daemon-host.ts';
import { formatReference, type ImageReference } from './reference.ts';
import { skopeoError } from './skopeo-error.ts';

const INSPECT_TIMEOUT = 60_000;
/** A manifest or config larger than this is not read. Registries refuse manifests over 4 MiB. */
const MAX_INSPECT_BYTES = 16 * 1024 * 1024;

export interface SkopeoOptions {
  readonly access?: RegistryAccess | undefined;
  /** Where skopeo keeps its own temporary files (a whole image's worth for docker-daemon and docker-archive). */
  readonly tmpdir: string;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Whether `host` is among the registries that need not prove who they are. */
export function isInsecure(host: string, access: RegistryAccess | undefined): boolean {
  return access?.insecureRegistries?.includes(host) ?? false;
}

/** The options for one side of a copy (`side` "src-" or "dest-") or of an inspection (""). */
function sideOptions(
  reference: ImageReference,
  side: 'src-' | 'dest-' | '',
  access: RegistryAccess | undefined,
): string[] {
  const options: string[] = [];
  if (reference.transport === 'docker' && isInsecure(reference.host, access)) options.push(`--${side}tls-verify=false`);
  if (reference.transport === 'docker' && access?.authFile !== undefined)
    options.push(`--${side}authfile=${access.authFile}`);
  if (reference.transport === 'docker-daemon') {
    const host = daemonHost(access);
    if (host !== undefined) options.push(`--${side}daemon-host=${host}`);
  }
  return options;
}

/** Runs skopeo and gives its standard output. Credentials never are among the arguments: skopeo finds them in its auth file. */
async function run(
  what: string,
  args: readonly string[],
  { tmpdir, log, signal }: SkopeoOptions,
  timeout: number | undefined,
): Promise<Buffer> {
  signal.throwIfAborted();
  log.debug({ args }, 'skopeo');
  const result = await execa('skopeo', [`--tmpdir=${tmpdir}`, ...args], {
    cancelSignal: signal,
    encoding: 'buffer',
    stripFinalNewline: false,
    maxBuffer: { stdout: MAX_INSPECT_BYTES, stderr: 1024 * 1024 },
    reject: false,
    stdin: 'ignore',
    forceKillAfterDelay: 5_000,
    ...(timeout === undefined ? {} : { timeout }),
  });
  if (!result.failed) return Buffer.from(result.stdout);
  signal.throwIfAborted();
  if (isErrno(result.cause, 'ENOENT')) {
    throw new GearError('failed-precondition', 'skopeo is not installed: get it with "apt-get install skopeo"', {
      cause: result.cause,
    });
  }
  if (result.timedOut)
    throw new GearError('deadline-exceeded', `${what}: no answer within ${INSPECT_TIMEOUT / 1000} s`);
  if (result.isMaxBuffer)
    throw new GearError('resource-exhausted', `${what}: the answer is larger than ${MAX_INSPECT_BYTES} bytes`);
  throw skopeoError(what, Buffer.from(result.stderr ?? []).toString('utf8'), result.exitCode);
}

/** The bytes of the manifest, or multi-arch list, that `reference` names, exactly as they are there. */
export async function inspectRaw(reference: ImageReference, options: SkopeoOptions): Promise<Buffer> {
  const name = formatReference(reference);
  return await run(
    name,
    ['inspect', '--raw', ...sideOptions(reference, '', options.access), name],
    options,
    INSPECT_TIMEOUT,
  );
}

/** The bytes of the config of an image (not of a multi-arch list), exactly as they are there. */
export async function inspectConfig(reference: ImageReference, options: SkopeoOptions): Promise<Buffer> {
  const name = formatReference(reference);
  const args = ['inspect', '--raw', '--config', ...sideOptions(reference, '', options.access), name];
  return await run(name, args, options, INSPECT_TIMEOUT);
}

export interface CopyOptions extends SkopeoOptions {
  /** A file that gets the digest ("sha256:...") of the manifest as it is at the destination. */
  readonly digestFile?: string | undefined;
}

/**
 * Copies an image between a registry, daemon, layout or archive. Without a deadline, as it may be of any size: whoever calls watches
 * its progress.
 */
export async function copyImage(
  source: ImageReference,
  destination: ImageReference,
  options: CopyOptions,
): Promise<void> {
  const to = formatReference(destination);
  const { access, digestFile } = options;
  const more = sideOptions(destination, 'dest-', access);
  if (digestFile !== undefined) more.push(`--digestfile=${digestFile}`);
  await copy(source, to, `${formatReference(source)} to ${to}`, more, options);
}

/** Copies an image's blobs, as they are, into the folder: a file for each, named by the hexadecimal digits of its digest. */
export async function copyToFolder(source: ImageReference, folder: string, options: SkopeoOptions): Promise<void> {
  await copy(source, `dir:${folder}`, formatReference(source), [], options);
}

/**
 * Copies an image's blobs, as they are, into the OCI layout in the folder; but not those that lie there already (skopeo looks only whether there is such a file). The
 * manifest that it writes there may be another than the source's.
 */
export async function copyToLayout(source: ImageReference, folder: string, options: SkopeoOptions): Promise<void> {
  const more = ['--dest-oci-accept-uncompressed-layers'];
  await copy(source, `oci:${folder}:image`, formatReference(source), more, options);
}

async function copy(
  source: ImageReference,
  to: string,
  what: string,
  more: readonly string[],
  options: SkopeoOptions,
): Promise<void> {
  const args = [
    'copy',
    '--quiet',
    '--remove-signatures',
    '--retry-times=2',
    ...sideOptions(source, 'src-', options.access),
  ];
  await run(what, [...args, ...more, formatReference(source), to], options, undefined);
}
