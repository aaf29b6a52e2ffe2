import { readFile } from 'node:fs/promises';
import { type Abortable, deadline } from '#core/abort.ts';
import { isGearError, messageOf, orUndefined } from '#core/errors.ts';
import { formatHostPort } from '#core/grpc/address.ts';
import { silentLogger } from '#core/log.ts';
import type { Access } from '#core/security/access.ts';
import type { NodeMountStatus } from '../nfs/node-mount.ts';
import { describeExport, type ExportFacts } from '../remote/export-facts.ts';
import { NfsSource } from '../remote/nfs-source.ts';
import { type Check, check } from './check.ts';

const TIMEOUT = 8_000;

export interface NfsFacts {
  /** Whether the kernel has its NFS client loaded. */
  readonly client: boolean;
  /** What the manager says; undefined and `reason`: nothing. `isOff`: it is not meant to export. */
  readonly described: ExportFacts | undefined;
  readonly isOff: boolean;
  readonly reason: string;
  /** Why known content does not read right through the export; '' where it does. */
  readonly content: string;
  /** The running driver's mount; undefined where it has none. */
  readonly mount: NodeMountStatus | undefined;
}

/** Asks the manager for its export, and reads known content through it. Mounts nothing. */
export async function lookAtNfs(
  manager: string,
  mount: NodeMountStatus | undefined,
  { signal, access = {} }: Abortable & { readonly access?: Access } = {},
): Promise<NfsFacts> {
  const filesystems = (await orUndefined(readFile('/proc/filesystems', 'utf8'), 'ENOENT')) ?? '';
  const client = /\bnfs4$/m.test(filesystems);
  using limited = deadline(TIMEOUT, `the NFS export of ${manager}`, signal);
  try {
    const described = await describeExport(manager, { signal: limited, access });
    using source = new NfsSource(manager, silentLogger(), access);
    const content = await source.connected(limited).then(() => '', messageOf);
    return { client, described, isOff: false, reason: '', content, mount };
  } catch (error) {
    signal?.throwIfAborted();
    const isOff = isGearError(error, 'failed-precondition');
    return { client, described: undefined, isOff, reason: messageOf(error), content: '', mount };
  }
}

/** The checks of NFS, which nothing needs: without it objects come over gRPC. */
export function nfsChecks({ client, described, isOff, reason, content, mount }: NfsFacts): Check[] {
  const exported =
    described === undefined
      ? reason
      : `${formatHostPort(described.server)}${described.path}, NFS ${described.versions.join(', ')}`;
  const checks = [
    check('nfs.export', "manager's export", described !== undefined ? 'ok' : isOff ? 'unknown' : 'warning', exported, {
      cost: 'objects are fetched by gRPC only, and --data-path nfs reads through the object filesystem',
      remedy: isOff ? 'gear manager --nfs ganesha' : "the manager's log says what its NFS server lacks",
    }),
  ];
  if (described !== undefined) {
    const found = content === '' ? 'known content reads right (NFS 4.0, without the kernel)' : content;
    checks.push(
      check('nfs.content', 'its content', content === '' ? 'ok' : 'warning', found, {
        cost: 'nothing is fetched over NFS, only by gRPC',
        remedy: "let this node's address in with --nfs-allow, open the way to the port, offer version 4.0",
      }),
    );
  }
  const kernel = client ? 'there' : 'not loaded';
  checks.push(
    check('nfs.client', "kernel's NFS client", client ? 'ok' : mount === undefined ? 'unknown' : 'warning', kernel, {
      cost: 'only --data-path nfs needs it',
      remedy: 'modprobe nfsv4 (Debian: any kernel that is not built without modules)',
    }),
  );
  if (mount === undefined) return checks;
  const where = mount.server === undefined ? '' : `${mount.server}, version ${mount.version}: `;
  return [
    ...checks,
    check(
      'nfs.mount',
      'NFS mount',
      mount.state === 'trusted' ? 'ok' : 'warning',
      `${where}${mount.state} ${mount.reason}`.trim(),
      {
        cost: 'containers that start now read through the object filesystem instead; those that read over this mount get errors after --fetch-deadline',
        remedy: "see nfs.export and nfs.client above, and the driver's log",
      },
    ),
  ];
}
