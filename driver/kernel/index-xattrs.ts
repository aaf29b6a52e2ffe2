import { type Digest, objectPath } from '#core/digest.ts';
import type { ByteString, Inode, RealInode } from '#core/index/tree.ts';

/** The xattrs by which overlayfs finds a file's contents in a data directory (Documentation/filesystems/overlayfs.rst). */
export const METACOPY = 'trusted.overlay.metacopy';
export const REDIRECT = 'trusted.overlay.redirect';
/** On a directory: hides what lower layers have in it. */
export const OPAQUE = 'trusted.overlay.opaque';

/** Where overlayfs looks for an object below each data directory. */
export function redirectTo(digest: Digest): ByteString {
  return `/${objectPath(digest)}`;
}

/** At most this many warnings are kept of one compilation. */
const MAX_WARNINGS = 100;

/** What could not be carried over, in words for a person. */
export class Warnings {
  readonly #texts: string[] = [];
  #more = 0;

  add(path: ByteString, text: string): void {
    if (this.#texts.length < MAX_WARNINGS) this.#texts.push(`${JSON.stringify(path)}: ${text}`);
    else this.#more++;
  }

  list(): string[] {
    return this.#more === 0 ? this.#texts : [...this.#texts, `and ${this.#more} more`];
  }
}

const ACL_ACCESS = 'system.posix_acl_access';
const ACL_DEFAULT = 'system.posix_acl_default';
const ACL_TAGS = new Set([0x01, 0x02, 0x04, 0x08, 0x10, 0x20]);

// linux/posix_acl_xattr.h: u32 version 2, then entries of u16 tag, u16 permissions, u32 id. The kernel answers EINVAL to every access of
// a file whose ACL is not of this form.
function isAcl(value: Buffer): boolean {
  if (value.length < 4 || (value.length - 4) % 8 !== 0 || value.readUInt32LE(0) !== 2) return false;
  for (let offset = 4; offset < value.length; offset += 8) {
    if (!ACL_TAGS.has(value.readUInt16LE(offset)) || value.readUInt16LE(offset + 2) > 7) return false;
  }
  return true;
}

function refusal(inode: RealInode, name: ByteString, value: Buffer): string | undefined {
  if (name.startsWith('trusted.overlay.') || name.startsWith('user.overlay.'))
    return 'is an order to overlayfs, which no image may give';
  if (name.startsWith('user.')) {
    if (inode.type !== 'file' && inode.type !== 'directory') return 'is only possible on files and directories';
  } else if (name === ACL_ACCESS || name === ACL_DEFAULT) {
    if (inode.type === 'symlink' || (name === ACL_DEFAULT && inode.type !== 'directory'))
      return `is not possible on a ${inode.type}`;
    if (!isAcl(value)) return 'is no ACL';
  } else if (!name.startsWith('trusted.') && !name.startsWith('security.')) return 'is not known to this filesystem';
  if (name.length > 255 || /^(user|trusted|security)\.$/.test(name) || name.includes('\0'))
    return 'has an impossible name';
  if (value.length > 65_535) return `has a value of ${value.length} bytes; 65535 are possible`;
  return undefined;
}

/** The image's own xattrs of an inode that may be put on a filesystem, in order of their names. The others become warnings. */
export function imageXattrs(inode: RealInode, path: ByteString, warnings: Warnings): [ByteString, Buffer][] {
  if (inode.xattrs.size === 0) return [];
  const kept: [ByteString, Buffer][] = [];
  for (const [name, value] of inode.xattrs) {
    const reason = refusal(inode, name, value);
    if (reason === undefined) kept.push([name, value]);
    else warnings.add(path, `the xattr ${JSON.stringify(name)} is left out: it ${reason}`);
  }
  return kept.sort(([a], [b]) => (a < b ? -1 : 1));
}

/** What overlayfs has to be told about an inode, by xattrs. */
export function overlayXattrs(inode: Inode): [ByteString, ByteString][] {
  if (inode.type === 'directory' && inode.opaque) return [[OPAQUE, 'y']];
  if (inode.type !== 'file' || inode.digest === undefined) return [];
  return [
    [METACOPY, ''],
    [REDIRECT, redirectTo(inode.digest)],
  ];
}
