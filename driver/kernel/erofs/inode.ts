import type { ByteString } from '#core/index/tree.ts';

/** An xattr whose prefix is a number of format.ts; the name is what stands behind the prefix. */
export interface ErofsXattr {
  readonly index: number;
  readonly name: ByteString;
  readonly value: ByteString | Uint8Array;
}

export type ErofsContent =
  | { readonly kind: 'none' }
  /** A regular file of that many bytes, all of them a hole. */
  | { readonly kind: 'hole'; readonly size: number }
  | { readonly kind: 'symlink'; readonly target: ByteString }
  /** `number` as st_rdev. */
  | { readonly kind: 'device'; readonly number: number }
  | ErofsDirectory;

export interface ErofsDirectory {
  readonly kind: 'directory';
  /** In order of their bytes; "." and ".." are among them. */
  readonly names: readonly ByteString[];
  /** For each name, where its inode stands in the list of inodes. */
  readonly targets: readonly number[];
}

/** What the writer needs of an inode. */
export interface ErofsInode {
  /** With the type's bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly links: number;
  readonly content: ErofsContent;
  /** Asked once in each pass; the same answer each time. */
  xattrs(): readonly ErofsXattr[];
}
