import type { Abortable } from '#core/abort.ts';
import { type Digest, digestFromBytes } from '#core/digest.ts';
import { GearError, isGearError } from '#core/errors.ts';
import { type HostPort, parseHostPort } from '#core/grpc/address.ts';
import { connect } from '#core/grpc/client.ts';
import type { Access } from '#core/security/access.ts';
import { ExportDescription_State, ExportService } from '#proto/gen/gear/v1/export.ts';

const TIMEOUT = 5_000;
/** A probe is read whole, into memory. */
const MAX_PROBE_BYTES = 4 * 1024 * 1024;

/** The manager's NFS export, as the manager describes it. */
export interface ExportFacts {
  readonly server: HostPort;
  /** The exported folder, from the server's root on. */
  readonly path: string;
  readonly versions: readonly string[];
  readonly probe: { readonly path: string; readonly size: number; readonly digest: Digest };
}

/**
 * Asks the manager at "HOST:PORT" for its NFS export. Throws failed-precondition where it has none, unavailable where its server does not answer (its
 * reason in the message) or it cannot be asked.
 */
export async function describeExport(
  manager: string,
  { signal, access }: Abortable & { readonly access?: Access | undefined } = {},
): Promise<ExportFacts> {
  using connection = connect(manager, 'manager address', access);
  const answer = await connection
    .unary(ExportService.describeExport, {}, { timeout: TIMEOUT, signal })
    .catch((error: unknown) => {
      // A manager of before there were exports.
      if (isGearError(error, 'unsupported')) throw none(manager, 'it knows of no exports');
      throw error;
    });
  const { state, reason, probe } = answer;
  if (state === ExportDescription_State.STATE_DOWN) {
    throw new GearError('unavailable', `the NFS server of manager ${manager} does not answer: ${reason}`);
  }
  if (state !== ExportDescription_State.STATE_SERVING || probe === undefined) throw none(manager, reason);
  const size = Number(probe.size);
  if (!isPath(answer.path) || !isPath(probe.path) || size === 0 || size > MAX_PROBE_BYTES || answer.port > 65_535) {
    throw new GearError('corrupt', `manager ${manager} describes an NFS export that cannot be: ${answer.path}`);
  }
  const { host } = parseHostPort(manager, 'manager address');
  return {
    server: { host: answer.host === '' ? host : answer.host, port: answer.port },
    path: answer.path,
    versions: answer.versions,
    probe: { path: probe.path, size, digest: digestFromBytes(probe.digest) },
  };
}

function none(manager: string, reason: string): GearError {
  return new GearError('failed-precondition', `manager ${manager} exports nothing over NFS: ${reason}`);
}

// The path goes into a mount's options and below the mount's folder.
function isPath(path: string): boolean {
  return path !== '' && !/[\s,\0]/.test(path) && !path.split('/').includes('..');
}
