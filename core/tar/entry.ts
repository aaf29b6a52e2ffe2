import type { ByteString } from '../index/tree.ts';

export type TarEntryType =
  | 'file'
  | 'hard-link'
  | 'symlink'
  | 'character-device'
  | 'block-device'
  | 'directory'
  | 'fifo';

/** An entry of a tar, as the tar has it: names and links are raw bytes and not yet checked. */
export interface TarEntry {
  readonly path: ByteString;
  readonly type: TarEntryType;
  /** The twelve permission bits (07777). */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970 (may be negative) and nanoseconds (0 to 999,999,999). */
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  /** Of a file: bytes, holes included. 0 for everything else. */
  readonly size: number;
  /** Of a symlink its target, of a hard link the path of another entry; else empty. */
  readonly link: ByteString;
  /** Of a device; else 0. */
  readonly major: number;
  readonly minor: number;
  readonly xattrs: Map<ByteString, Buffer>;
  /**
   * Of a file: exactly `size` bytes, in the pieces in which they arrive, once. What is not consumed is skipped when the next entry is asked
   * for; after that, reading fails.
   */
  readonly content: AsyncIterable<Buffer>;
}

/** An entry without its content. */
export type TarHeader = Omit<TarEntry, 'content'>;
