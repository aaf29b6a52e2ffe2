import type { ByteString } from './tree.ts';

/**
 * The attributes of everything that has none: one map for all, since an empty map for each of a million inodes would take more memory
 * than their names. Adding to it fails.
 */
export const NO_XATTRS: Map<ByteString, Buffer> = Object.defineProperty(new Map<ByteString, Buffer>(), 'set', {
  value: () => {
    throw new TypeError('NO_XATTRS is shared: make a map of your own');
  },
});

/** Names that are orders to overlayfs: never taken from an image, never written as an image says. */
export function isOverlayXattr(name: ByteString): boolean {
  return name.startsWith('trusted.overlay.') || name.startsWith('user.overlay.');
}
