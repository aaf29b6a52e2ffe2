import { isIP } from 'node:net';
import { GearError } from '#core/errors.ts';
import type { ExportConfig } from './options.ts';

/** What nodes see as the exported folder. */
export const GANESHA_PATH = '/objects';
const NOBODY = 65_534;

export interface GaneshaFiles {
  /** The folder that is exported. */
  readonly objects: string;
  /** Where the server may keep what it likes. */
  readonly state: string;
}

/** The configuration of ganesha.nfsd 4: one export, read-only, for the allowed networks only, and nothing else. Throws invalid-argument. */
export function ganeshaConfig(config: ExportConfig, { objects, state }: GaneshaFiles): string {
  const { host, port } = config.listen;
  const minor = config.versions.map((version) => version.split('.')[1]).join(', ');
  return `NFS_CORE_PARAM {
  Protocols = 4;
  NFS_Port = ${port};
  Bind_addr = ${host};
  Enable_UDP = false;
  Enable_NLM = false;
  Enable_RQUOTA = false;
}
NFS_KRB5 { Active_krb5 = false; }
NFSV4 {
  Minor_Versions = ${minor};
  # Nothing can be locked or written, so nothing has to be reclaimed.
  Graceless = true;
  Delegations = false;
  RecoveryBackend = fs;
  RecoveryRoot = ${quoted(state)};
  Only_Numeric_Owners = true;
}
EXPORT_DEFAULTS { Access_Type = NONE; }
EXPORT {
  Export_Id = 1;
  Path = ${quoted(objects)};
  Pseudo = "${GANESHA_PATH}";
  Protocols = 4;
  Transports = TCP;
  SecType = sys;
  Access_Type = NONE;
  Squash = All_Squash;
  Anonymous_Uid = ${NOBODY};
  Anonymous_Gid = ${NOBODY};
  FSAL { Name = VFS; }
  CLIENT {
    Clients = ${config.allow.map(network).join(', ')};
    Access_Type = RO;
  }
}
LOG { Default_Log_Level = EVENT; }
`;
}

// Ganesha takes a network of one for a mistake.
function network(text: string): string {
  const [address = '', bits] = text.split('/');
  return bits === (isIP(address) === 4 ? '32' : '128') ? address : text;
}

function quoted(path: string): string {
  if (/["'\\\n]/.test(path)) {
    throw new GearError('invalid-argument', `${path} cannot be exported: no quotes or backslashes in --root, please`);
  }
  return `"${path}"`;
}
