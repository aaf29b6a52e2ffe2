import { INIT_FLAGS, INIT_FLAGS2 } from './flags.ts';
import type { FuseRequest } from './request.ts';

const MAJOR = 7;
/** What our structures are written for; the kernel takes the lower of the two minors. */
const MINOR = 45;
/** Kernel 5.1: everything that is not asked about by a flag. */
const OLDEST_MINOR = 28;
const PAGE = 4096;
const MAX_READ = 128 * 1024;

const WANTED =
  INIT_FLAGS.ASYNC_READ |
  INIT_FLAGS.DO_READDIRPLUS |
  INIT_FLAGS.READDIRPLUS_AUTO |
  INIT_FLAGS.PARALLEL_DIROPS |
  INIT_FLAGS.MAX_PAGES |
  INIT_FLAGS.CACHE_SYMLINKS |
  INIT_FLAGS.INIT_EXT;
const WANTED2 = INIT_FLAGS2.PASSTHROUGH | INIT_FLAGS2.NO_EXPORT_SUPPORT | INIT_FLAGS2.HAS_RESEND;

/** What the kernel and we have agreed on. It holds as long as the mount does, whichever process serves it. */
export interface Negotiated {
  readonly minor: number;
  /** The kernel can read backing files past us. */
  readonly passthrough: boolean;
  /** The kernel marks requests that it sends again. */
  readonly resend: boolean;
}

export type InitAnswer =
  | { readonly kind: 'agreed'; readonly body: Buffer; readonly negotiated: Negotiated }
  /** The kernel is newer by a major version and is told ours; it asks again. */
  | { readonly kind: 'ask-again'; readonly body: Buffer }
  | { readonly kind: 'too-old' };

/**
 * Answers INIT. struct fuse_init_in: u32 major, minor, max_readahead, flags, flags2. struct fuse_init_out: u32 major, minor, max_readahead,
 * flags; u16 max_background, congestion_threshold; u32 max_write, time_gran; u16 max_pages, map_alignment; u32 flags2,
 * max_stack_depth; then zeros up to 64 bytes.
 */
export function negotiate(request: FuseRequest): InitAnswer {
  const major = request.uint32(0);
  const minor = request.uint32(4);
  const body = Buffer.alloc(64);
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  view.setUint32(0, MAJOR, true);
  view.setUint32(4, MINOR, true);
  if (major > MAJOR) return { kind: 'ask-again', body };
  if (major < MAJOR || minor < OLDEST_MINOR) return { kind: 'too-old' };
  const flags = request.uint32(12) & WANTED;
  const flags2 = (flags & INIT_FLAGS.INIT_EXT) !== 0 && request.bodyBytes >= 20 ? request.uint32(16) & WANTED2 : 0;
  const passthrough = (flags2 & INIT_FLAGS2.PASSTHROUGH) !== 0;
  view.setUint32(8, Math.min(request.uint32(8), MAX_READ), true);
  view.setUint32(12, flags, true);
  // Requests of the page cache (read-ahead) that may wait at a time; those of programs that wait for an open are not counted.
  view.setUint16(16, 64, true);
  view.setUint16(18, 48, true);
  // Nothing is ever written; the smallest value keeps our read buffers small.
  view.setUint32(20, PAGE, true);
  view.setUint32(24, 1, true);
  view.setUint16(28, MAX_READ / PAGE, true);
  view.setUint32(32, flags2, true);
  view.setUint32(36, passthrough ? 1 : 0, true);
  return {
    kind: 'agreed',
    body,
    negotiated: { minor: Math.min(minor, MINOR), passthrough, resend: (flags2 & INIT_FLAGS2.HAS_RESEND) !== 0 },
  };
}
