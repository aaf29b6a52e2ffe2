/** Bits of mount(2), from linux/mount.h. */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 16,
  REMOUNT: 32,
  DIRSYNC: 128,
  NOSYMFOLLOW: 256,
  NOATIME: 1024,
  NODIRATIME: 2048,
  BIND: 4096,
  REC: 16384,
  UNBINDABLE: 1 << 17,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
  SHARED: 1 << 20,
  RELATIME: 1 << 21,
  STRICTATIME: 1 << 24,
} as const;

const set = (bits: number) => ({ set: bits, clear: 0 });
const clear = (bits: number) => ({ set: 0, clear: bits });

/** Options that mount(8) and containerd spell as words and mount(2) takes as bits. */
const FLAGS: Readonly<Record<string, { set: number; clear: number }>> = {
  defaults: set(0),
  ro: set(MS.RDONLY),
  rw: clear(MS.RDONLY),
  nosuid: set(MS.NOSUID),
  suid: clear(MS.NOSUID),
  nodev: set(MS.NODEV),
  dev: clear(MS.NODEV),
  noexec: set(MS.NOEXEC),
  exec: clear(MS.NOEXEC),
  sync: set(MS.SYNCHRONOUS),
  async: clear(MS.SYNCHRONOUS),
  remount: set(MS.REMOUNT),
  dirsync: set(MS.DIRSYNC),
  nosymfollow: set(MS.NOSYMFOLLOW),
  symfollow: clear(MS.NOSYMFOLLOW),
  noatime: set(MS.NOATIME),
  atime: clear(MS.NOATIME),
  nodiratime: set(MS.NODIRATIME),
  diratime: clear(MS.NODIRATIME),
  relatime: set(MS.RELATIME),
  norelatime: clear(MS.RELATIME),
  strictatime: set(MS.STRICTATIME),
  nostrictatime: clear(MS.STRICTATIME),
  bind: set(MS.BIND),
  rbind: set(MS.BIND | MS.REC),
};

/** How a mount's events travel between mount namespaces; each needs a call of its own. */
const PROPAGATION: Readonly<Record<string, number>> = {
  private: MS.PRIVATE,
  rprivate: MS.PRIVATE | MS.REC,
  shared: MS.SHARED,
  rshared: MS.SHARED | MS.REC,
  slave: MS.SLAVE,
  rslave: MS.SLAVE | MS.REC,
  unbindable: MS.UNBINDABLE,
  runbindable: MS.UNBINDABLE | MS.REC,
};

export interface ParsedOptions {
  readonly flags: number;
  /** One entry for each change of propagation, in order. */
  readonly propagation: readonly number[];
  /** What the filesystem itself is told. */
  readonly data: readonly string[];
}

/** Splits mount options into mount(2)'s bits and what the filesystem is told; later words win over earlier ones. */
export function parseMountOptions(options: readonly string[]): ParsedOptions {
  let flags = 0;
  const propagation: number[] = [];
  const data: string[] = [];
  for (const option of options) {
    const flag = Object.hasOwn(FLAGS, option) ? FLAGS[option] : undefined;
    const change = Object.hasOwn(PROPAGATION, option) ? PROPAGATION[option] : undefined;
    if (flag !== undefined) flags = (flags & ~flag.clear) | flag.set;
    else if (change !== undefined) propagation.push(change);
    else if (option !== '') data.push(option);
  }
  return { flags, propagation, data };
}
