import { createHash } from 'node:crypto';
import { execa } from 'execa';
import { cancelledBy } from './docker.ts';
import { program } from './packages.ts';

export interface CopyOptions {
  /** Keep the digest or fail. */
  readonly preserveDigests?: boolean;
  readonly login?: { readonly user: string; readonly password: string };
  /** The source is a registry with TLS. Default: registries speak http. */
  readonly verifySource?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Copies an image between two places in skopeo's words ("oci:FOLDER:TAG", "docker://127.0.0.1:5000/name:tag"). */
export async function copyImage(from: string, to: string, options: CopyOptions = {}): Promise<void> {
  const credentials = options.login && `--dest-creds=${options.login.user}:${options.login.password}`;
  const args = [
    ...['--insecure-policy', 'copy', '--quiet', '--dest-tls-verify=false'],
    `--src-tls-verify=${options.verifySource === true}`,
    ...(options.preserveDigests === true ? ['--preserve-digests'] : []),
    ...(credentials === undefined ? [] : [credentials]),
    from,
    to,
  ];
  await execa(program('skopeo'), args, cancelledBy(options.signal));
}

/** The manifest's digest ("sha256:...") of what lies at a place. */
export async function manifestDigest(place: string): Promise<string> {
  return `sha256:${createHash('sha256')
    .update(await rawManifest(place))
    .digest('hex')}`;
}

/** The manifest's exact bytes. */
export async function rawManifest(place: string): Promise<Buffer> {
  const { stdout } = await execa(program('skopeo'), ['inspect', '--raw', '--tls-verify=false', place], {
    encoding: 'buffer',
    stripFinalNewline: false,
  });
  return Buffer.from(stdout);
}

/** The image's configuration as JSON says it. */
export async function imageConfig(place: string): Promise<Record<string, unknown>> {
  const { stdout } = await execa(program('skopeo'), ['inspect', '--config', '--raw', '--tls-verify=false', place]);
  return JSON.parse(stdout) as Record<string, unknown>;
}
