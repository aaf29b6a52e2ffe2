/** Bits of linux/fuse.h (protocol 7.45), named as there without their prefix. */

/** FUSE_* of INIT, bits 0 to 31. */
export const INIT_FLAGS = {
  ASYNC_READ: 1 << 0,
  EXPORT_SUPPORT: 1 << 4,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  PARALLEL_DIROPS: 1 << 18,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  INIT_EXT: 1 << 30,
} as const;

/** FUSE_* of INIT, bits 32 to 63, which travel in a word of their own. */
export const INIT_FLAGS2 = {
  PASSTHROUGH: 1 << (37 - 32),
  NO_EXPORT_SUPPORT: 1 << (38 - 32),
  HAS_RESEND: 1 << (39 - 32),
} as const;

/** FOPEN_* of the reply to OPEN and OPENDIR. */
export const OPEN_FLAGS = {
  KEEP_CACHE: 1 << 1,
  CACHE_DIR: 1 << 3,
  PASSTHROUGH: 1 << 7,
} as const;

/** FUSE_NOTIFY_* codes, which stand where a reply has its error. */
export const NOTIFY = { RESEND: 7 } as const;

/** FUSE_UNIQUE_RESEND: the top bit of a request's number, when the kernel sends it a second time. */
export const UNIQUE_RESEND_HIGH = 0x8000_0000;

/** The names of the bits that are set, those without a name in hexadecimal: "ASYNC_READ|0x40000". */
export function flagNames(table: Readonly<Record<string, number>>, value: number): string {
  const names: string[] = [];
  let rest = value >>> 0;
  for (const [name, bit] of Object.entries(table)) {
    if ((rest & bit) === 0) continue;
    names.push(name);
    rest = (rest & ~bit) >>> 0;
  }
  if (rest !== 0) names.push(`0x${rest.toString(16)}`);
  return names.join('|') || '0';
}
