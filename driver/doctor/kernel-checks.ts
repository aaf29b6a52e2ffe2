import type { Finding, ProbeName } from '../kernel/probe.ts';
import { type Check, check } from './check.ts';

interface Feature {
  readonly probe: ProbeName;
  readonly title: string;
  /** What its absence means for a node. */
  readonly absent: 'missing' | 'warning';
  readonly cost: string;
  readonly remedy: string;
}

const KERNEL = 'a newer kernel of the distribution (uname -r says which runs)';

const FEATURES: readonly Feature[] = [
  {
    probe: 'overlay',
    title: 'overlayfs',
    absent: 'missing',
    cost: 'no container can be started',
    remedy: 'a kernel with CONFIG_OVERLAY_FS (modprobe overlay), and root rights where Gear runs',
  },
  {
    probe: 'metacopy',
    title: 'overlayfs metacopy',
    absent: 'missing',
    cost: 'Gear images cannot be mounted; elsewhere chmod and chown would copy, and so fetch, whole files',
    remedy: 'kernel 4.19 or newer, and a root filesystem with trusted xattrs',
  },
  {
    probe: 'data-layers',
    title: 'overlayfs data-only layers',
    absent: 'missing',
    cost: 'Gear images cannot be mounted lazily',
    remedy: `kernel 6.5 or newer: ${KERNEL}`,
  },
  {
    probe: 'fsconfig-layers',
    title: 'overlayfs layers by fsconfig',
    absent: 'warning',
    cost: 'mounts of many layers need short links, and lists of mounts show those',
    remedy: `kernel 6.7 or newer: ${KERNEL}`,
  },
  {
    probe: 'erofs-file',
    title: 'EROFS without loop devices',
    absent: 'warning',
    cost: 'each mounted image takes a loop device, or its index becomes a plain directory (ten times slower to make, an inode for each file)',
    remedy: 'kernel 6.12 or newer with CONFIG_EROFS_FS_BACKED_BY_FILE',
  },
  {
    probe: 'erofs-loop',
    title: 'EROFS by loop device',
    absent: 'warning',
    cost: 'where EROFS cannot mount files either, an index becomes a plain directory',
    remedy: 'CONFIG_EROFS_FS and CONFIG_BLK_DEV_LOOP (modprobe erofs loop)',
  },
  {
    probe: 'fuse',
    title: 'FUSE',
    absent: 'missing',
    cost: 'what is not on the node yet cannot be fetched when it is opened',
    remedy: 'a kernel with CONFIG_FUSE_FS (modprobe fuse), and /dev/fuse where Gear runs in a container',
  },
  {
    probe: 'fuse-passthrough',
    title: 'FUSE passthrough',
    absent: 'warning',
    cost: "a file's first reader reads through the object filesystem's process; later readers do not",
    remedy: 'kernel 6.9 or newer with CONFIG_FUSE_PASSTHROUGH',
  },
];

const ON_ROOT: readonly Feature[] = [
  {
    probe: 'trusted-xattrs',
    title: 'trusted xattrs',
    absent: 'missing',
    cost: 'overlayfs cannot mark deletions and metadata copies',
    remedy: 'put --root (and dockerd --data-root) on ext4, xfs or btrfs, and run as root',
  },
  {
    probe: 'user-xattrs',
    title: 'user xattrs',
    absent: 'warning',
    cost: 'user xattrs of ordinary layers are lost',
    remedy: 'put --root (and dockerd --data-root) on ext4, xfs or btrfs',
  },
  {
    probe: 'hard-links',
    title: 'hard links',
    absent: 'missing',
    cost: 'the cache cannot pin what an image uses',
    remedy: 'put --root on ext4, xfs or btrfs',
  },
  {
    probe: 'directory-types',
    title: 'types in directories (d_type)',
    absent: 'missing',
    cost: 'overlayfs cannot write there',
    remedy: 'xfs: make the filesystem with ftype=1; else another filesystem',
  },
];

/** What was found out by trying, in words. Without EROFS in any way, or only by loop device, one of the two rows is no loss. */
export function featureChecks(findings: Readonly<Record<ProbeName, Finding>>): Check[] {
  const rows = [
    ...FEATURES.map((feature) => ({ group: 'kernel', feature })),
    ...ON_ROOT.map((feature) => ({ group: 'root', feature })),
  ];
  return rows.map(({ group, feature }) => {
    const { works, detail } = findings[feature.probe];
    const covered = feature.probe === 'erofs-loop' && findings['erofs-file'].works;
    const state = works ? 'ok' : covered ? 'ok' : feature.absent;
    const found = !works && covered ? `not there, and not needed (${detail})` : detail;
    const { cost, remedy } = feature;
    return check(`${group}.${feature.probe}`, feature.title, state, found, { cost, remedy });
  });
}
