import { statfs } from 'node:fs/promises';

/** A filesystem that a driver's home may lie on. */
export interface BackingFilesystem {
  /** Docker's name for it ("extfs", "xfs"), or "unknown". */
  readonly name: string;
  /** f_type of statfs(2). */
  readonly magic: number;
  /** Whether overlayfs can have its upper directory there (it needs trusted xattrs, whiteouts and d_type). */
  readonly overlayUpper: boolean;
}

/** f_type values of linux/magic.h with the names of Docker's FsNames (daemon/graphdriver/driver_linux.go), and whether an upper may be there. */
const KNOWN: ReadonlyMap<number, readonly [name: string, overlayUpper: boolean]> = new Map([
  [0x61756673, ['aufs', false]],
  [0x9123683e, ['btrfs', true]],
  [0x28cd3d45, ['cramfs', false]],
  [0xf15f, ['ecryptfs', false]],
  [0xe0f5e1e2, ['erofs', false]],
  [0xef53, ['extfs', true]],
  [0xf2f52010, ['f2fs', true]],
  [0x65735546, ['fuse', false]],
  [0x47504653, ['gpfs', false]],
  [0x3153464a, ['jfs', true]],
  [0x6969, ['nfs', false]],
  [0x517b, ['smb', false]],
  [0xff534d42, ['cifs', false]],
  [0x01021997, ['9p', false]],
  [0x858458f6, ['ramfs', true]],
  [0x52654973, ['reiserfs', true]],
  [0x73717368, ['squashfs', false]],
  [0x01021994, ['tmpfs', true]],
  [0x794c7630, ['overlayfs', false]],
  [0x4d44, ['vfat', false]],
  [0xa501fcf5, ['vxfs', false]],
  [0x58465342, ['xfs', true]],
  [0x2fc12fc1, ['zfs', true]],
  [0xca451a4e, ['bcachefs', true]],
]);

/** The filesystem behind an f_type; one that nobody listed is "unknown", and only trying tells what it can do. */
export function filesystemOfMagic(magic: number): BackingFilesystem {
  // statfs has the number as a signed word on some machines.
  const unsigned = magic >>> 0;
  const [name, overlayUpper] = KNOWN.get(unsigned) ?? ['unknown', true];
  return { name, magic: unsigned, overlayUpper };
}

/** The filesystem that `path`, which exists, lies on. */
export async function backingFilesystem(path: string): Promise<BackingFilesystem> {
  return filesystemOfMagic(Number((await statfs(path, { bigint: true })).type & 0xffffffffn));
}
