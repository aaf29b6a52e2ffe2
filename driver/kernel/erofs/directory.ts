import type { ByteString } from '#core/index/tree.ts';
import { BLOCK_SIZE, DIRENT_SIZE } from './format.ts';

/** How a directory's names are spread over blocks. */
export interface DirectoryLayout {
  /** For each whole block, the first name in it; and at the end the first name of the tail (or the count of names). */
  readonly starts: readonly number[];
  /** Bytes behind the last whole block that follow the inode itself; 0: nothing is left. */
  readonly tail: number;
}

/** A tail up to this size follows its inode; a longer one would leave too large a hole where it must not cross a block's end. */
export const MAX_TAIL = BLOCK_SIZE / 2;

/** Spreads names, in order, over blocks of which each is filled as far as whole entries go. */
export function layoutDirectory(names: readonly ByteString[]): DirectoryLayout {
  const starts: number[] = [0];
  let used = 0;
  for (let i = 0; i < names.length; i++) {
    const size = DIRENT_SIZE + (names[i] as ByteString).length;
    if (used + size > BLOCK_SIZE) {
      starts.push(i);
      used = 0;
    }
    used += size;
  }
  if (used <= MAX_TAIL) return { starts, tail: used };
  starts.push(names.length);
  return { starts, tail: 0 };
}
