import { deadline } from '#core/abort.ts';
import { digestOf } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { HostPort } from '#core/grpc/address.ts';
import { NfsClient } from '#core/nfs/client.ts';
import { isAllowed } from './networks.ts';
import type { ExportConfig } from './options.ts';
import type { Probe } from './probe-file.ts';

const TIMEOUT = 3_000;

/** Where this process reaches a server that listens at an address: a wildcard is no place to connect to. */
export function reachable({ host, port }: HostPort): HostPort {
  return { host: host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host, port };
}

/**
 * Whether the server answers; where it has to let this machine in and speaks 4.0, also whether the probe reads right through it. Throws what
 * is wrong.
 */
export async function checkServer(
  config: ExportConfig,
  path: string,
  probe: Probe,
  signal: AbortSignal,
): Promise<void> {
  using limited = deadline(TIMEOUT, 'the NFS server', signal);
  const address = reachable(config.listen);
  using client = await NfsClient.connect(address, { signal: limited });
  await client.ping({ signal: limited });
  // Its own address is what a process has as its peer's when it connects to itself.
  if (!config.versions.includes('4.0') || !isAllowed(address.host, config.allow)) return;
  const folder = await client.folder(path, { signal: limited });
  const bytes = await client.read(folder, probe.path, 0, probe.size, { signal: limited });
  if (digestOf(bytes) !== probe.digest) {
    throw new GearError('corrupt', `${client.name} gives other bytes for ${probe.path} than the store has`);
  }
}
