import { resolve } from 'node:path';
import type { Option, Values } from '#core/cli/command.ts';
import type { RegistryAccess } from '../registry/access.ts';

/** Where the manager listens for gRPC unless told otherwise. */
export const MANAGER_ADDRESS = '127.0.0.1:2019';

/** Options of the commands that reach registries and daemons from this machine. */
export const REGISTRY_OPTIONS = {
  authfile: {
    type: 'string',
    value: 'FILE',
    help: 'Registry credentials, as docker login writes them (default: where skopeo looks)',
  },
  'insecure-registry': {
    type: 'list',
    value: 'HOST[:PORT]',
    help: 'A registry that speaks http, or https with an unknown certificate; may be repeated',
  },
  'docker-host': { type: 'string', value: 'ADDRESS', help: 'The daemon of docker-daemon: images, as in DOCKER_HOST' },
  scratch: { type: 'string', value: 'FOLDER', help: 'Where temporary files lie (default: $TMPDIR or /var/tmp)' },
} as const satisfies Readonly<Record<string, Option>>;

/** How to reach registries, as the options say; a list's item may itself be a list with commas. */
export function registryAccess(values: Values<typeof REGISTRY_OPTIONS>): RegistryAccess {
  return {
    authFile: values.authfile === undefined ? undefined : resolve(values.authfile),
    insecureRegistries: values['insecure-registry'].flatMap((hosts) => hosts.split(',')).filter((host) => host !== ''),
    dockerHost: values['docker-host'],
  };
}

/** The folder for temporary files, absolute: there must be room in it for the compressed image. */
export function scratchFolder(values: Values<typeof REGISTRY_OPTIONS>): string {
  return resolve(values.scratch ?? process.env['TMPDIR'] ?? '/var/tmp');
}
