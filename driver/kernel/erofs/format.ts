// The disk format of EROFS as far as an index needs it; facts from the kernel's fs/erofs/erofs_fs.h and erofs.docs.kernel.org. All
// numbers are little-endian.

export const BLOCK_BITS = 12;
export const BLOCK_SIZE = 1 << BLOCK_BITS;

/** The superblock stands 1024 bytes into the first block and has 128 bytes. */
export const SUPER_OFFSET = 1024;
export const SUPER_SIZE = 128;
export const SUPER_MAGIC = 0xe0f5e1e2;
/** Inside the superblock. */
export const SUPER_CHECKSUM_OFFSET = 4;
export const SUPER_UUID_OFFSET = 48;
export const UUID_SIZE = 16;
export const VOLUME_NAME_SIZE = 16;

/** The checksum field holds a crc32c; every inode has a time of its own. */
export const FEATURE_COMPAT = { superblockChecksum: 0x1, mtime: 0x2 } as const;
export const FEATURE_INCOMPAT = { chunkedFile: 0x4 } as const;

/** A node id is an inode's offset from the metadata's first block, in slots. The superblock has 16 bits for the root's. */
export const SLOT_SIZE = 32;

/** An inode of the extended layout: 32-bit owners and link count, a time in nanoseconds. */
export const INODE_SIZE = 64;
const EXTENDED = 1;

/** i_format: how the data is found, for an extended inode. */
export const DATA_LAYOUT = {
  /** In whole blocks from i_u on, or no data at all. */
  plain: EXTENDED | (0 << 1),
  /** As plain, but what is left behind the last whole block follows the inode and its xattrs, within one block. */
  inline: EXTENDED | (2 << 1),
  /** In chunks, whose block addresses follow the inode and its xattrs, 4 bytes each. */
  chunks: EXTENDED | (4 << 1),
} as const;

/** In place of a chunk's address: there is no data, it reads as zeros. */
export const NULL_ADDRESS = 0xffffffff;
/** log2 of the largest chunk: i_u has 5 bits above the block size's. */
export const MAX_CHUNK_BITS = BLOCK_BITS + 31;

/** A block of a directory: entries of 12 bytes (u64 nid, u16 offset of the name in this block, u8 type, u8 reserved), then the names. */
export const DIRENT_SIZE = 12;

/** FT_* of linux/fs_types.h, by the upper four bits of an inode's mode. */
export const FILE_TYPE: readonly number[] = [0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6, 0, 0, 0];

/** In front of an inode's xattrs: u32 name filter, u8 count of shared xattrs, 7 reserved. */
export const XATTR_HEADER_SIZE = 12;
/** u8 length of the name, u8 index of its prefix, u16 size of the value; then both; then zeros up to a multiple of 4. */
export const XATTR_ENTRY_SIZE = 4;
export const XATTR_ALIGNMENT = 4;
/** i_xattr_icount has 16 bits and counts the header as one, the rest in fours. */
export const MAX_XATTR_BODY = XATTR_HEADER_SIZE + 4 * (0xffff - 1);
export const MAX_XATTR_VALUE = 0xffff;

/** What a name may start with; the prefix is stored as its number. ACLs are their whole name. */
export const XATTR_PREFIXES = [
  { prefix: 'user.', index: 1, whole: false },
  { prefix: 'system.posix_acl_access', index: 2, whole: true },
  { prefix: 'system.posix_acl_default', index: 3, whole: true },
  { prefix: 'trusted.', index: 4, whole: false },
  { prefix: 'security.', index: 6, whole: false },
] as const;
