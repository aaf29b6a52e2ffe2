import { GearError } from '#core/errors.ts';
import type { RegistryAccess } from './access.ts';

/**
 * Where the Docker daemon listens, as skopeo takes it, or undefined for the usual socket. DOCKER_HOST counts where nothing else is given (skopeo itself
 * does not look at it); its "tcp://" means http unless DOCKER_TLS_VERIFY is set, whereas skopeo would take it for TLS. Throws unsupported for ssh.
 */
export function daemonHost(
  access: RegistryAccess | undefined,
  environment: NodeJS.ProcessEnv = process.env,
): string | undefined {
  const host = access?.dockerHost || environment['DOCKER_HOST'] || undefined;
  if (host === undefined) return undefined;
  if (host.startsWith('unix://')) return host;
  if (host.startsWith('/')) return `unix://${host}`;
  const tcp = /^tcp:\/\/([^/]+)\/?$/.exec(host);
  if (tcp !== null) return environment['DOCKER_TLS_VERIFY'] ? `https://${tcp[1]}` : `http://${tcp[1]}`;
  if (/^https?:\/\/[^/]/.test(host)) return host;
  throw new GearError(
    'unsupported',
    `Docker host ${JSON.stringify(host)}: unix://, tcp://, http:// and https:// are supported`,
  );
}
