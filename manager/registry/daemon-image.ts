import { request } from 'node:http';
import { deadline } from '#core/abort.ts';
import { type Digest, parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { RegistryAccess } from './access.ts';
import { daemonHost } from './daemon-host.ts';
import { type DaemonReference, formatReference } from './reference.ts';

const TIMEOUT = 30_000;
const DEFAULT_SOCKET = '/var/run/docker.sock';

function addressOf(host: string | undefined): { socketPath: string } | { host: string; port: string } {
  if (host === undefined) return { socketPath: DEFAULT_SOCKET };
  if (host.startsWith('unix://')) return { socketPath: host.slice('unix://'.length) };
  const url = new URL(host);
  return { host: url.hostname, port: url.port };
}

/**
 * The id of an image in a Docker daemon (the digest of its config), or undefined where it has no such image, or can only be reached by TLS. To ask the
 * daemon takes milliseconds; skopeo would make it save the whole image first. Throws unavailable when the daemon does not answer.
 */
export async function daemonImageId(
  reference: DaemonReference,
  { access, signal }: { access?: RegistryAccess | undefined; signal: AbortSignal },
): Promise<Digest | undefined> {
  if (reference.id !== undefined) return reference.id;
  const host = daemonHost(access);
  if (host?.startsWith('https:') === true) return undefined;
  const name = `${reference.name}:${reference.tag}`;
  using limited = deadline(TIMEOUT, `Docker daemon, asked for ${name}`, signal);
  const { promise, resolve, reject } = Promise.withResolvers<Digest | undefined>();
  const call = request({ ...addressOf(host), path: `/images/${name}/json`, signal: limited }, (response) => {
    const pieces: Buffer[] = [];
    response.on('error', reject);
    response.on('data', (piece: Buffer) => pieces.push(piece));
    response.on('end', () => {
      if (response.statusCode !== 200) return resolve(undefined);
      try {
        resolve(parseDigest(String((JSON.parse(Buffer.concat(pieces).toString()) as { Id?: unknown }).Id)));
      } catch (error) {
        reject(error);
      }
    });
  });
  call.on('error', reject);
  call.end();
  try {
    return await promise;
  } catch (error) {
    limited.throwIfAborted();
    const where = host ?? `unix://${DEFAULT_SOCKET}`;
    throw new GearError('unavailable', `${formatReference(reference)}: the Docker daemon at ${where} does not answer`, {
      cause: error,
    });
  }
}
