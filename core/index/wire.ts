import { EntryType, IndexKind } from '#proto/gen/gear/v1/index.ts';
import type { Inode, Tree } from './tree.ts';

/** Version of the index's meaning that this code writes and reads. */
export const INDEX_VERSION = 1;

/** The kinds of trees in the words of index.proto. */
export const KIND = { image: IndexKind.INDEX_KIND_IMAGE, layer: IndexKind.INDEX_KIND_LAYER } as const;

/** The types of inodes in the words of index.proto. */
export const TYPE = {
  directory: EntryType.ENTRY_TYPE_DIRECTORY,
  file: EntryType.ENTRY_TYPE_FILE,
  symlink: EntryType.ENTRY_TYPE_SYMLINK,
  'character-device': EntryType.ENTRY_TYPE_CHARACTER_DEVICE,
  'block-device': EntryType.ENTRY_TYPE_BLOCK_DEVICE,
  fifo: EntryType.ENTRY_TYPE_FIFO,
  whiteout: EntryType.ENTRY_TYPE_WHITEOUT,
} as const satisfies Record<Inode['type'], EntryType>;

/** The kind that a number on the wire means. */
export function kindOf(value: number): Tree['kind'] | undefined {
  if (value === KIND.image) return 'image';
  return value === KIND.layer ? 'layer' : undefined;
}
