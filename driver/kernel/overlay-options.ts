import { GearError } from '#core/errors.ts';

/** An overlay mount, as data. All paths are absolute. */
export interface Overlay {
  /** The topmost first. */
  readonly lower: readonly string[];
  /** Folders that only give contents, to files of `lower` that carry overlay's redirects; searched in order. Kernel 6.5. */
  readonly data?: readonly string[];
  /** Where changes go. Without it the mount is read-only. */
  readonly upper?: string;
  /** An empty folder on the filesystem of `upper`, for this mount alone. */
  readonly work?: string;
  /** chmod and chown copy no contents: `upper` then holds files without contents. Implied by `data`. */
  readonly metacopy?: boolean;
  /** Directories of lower layers can be renamed: `upper` then holds redirects. Implied by `metacopy`, which the kernel refuses without. */
  readonly redirectDirectories?: boolean;
  /** Inode numbers stay the same over a copy-up also where the layers lie on several filesystems. */
  readonly xino?: 'on' | 'off' | 'auto';
  /** An SELinux label for every file of the mount. */
  readonly label?: string;
}

/** One option of overlayfs, before anything is escaped. A path names a folder. */
export type OverlayOption =
  | { readonly key: string; readonly kind: 'text'; readonly value: string }
  | { readonly key: 'lowerdir+' | 'datadir+' | 'upperdir' | 'workdir'; readonly kind: 'path'; readonly value: string };

/** OVL_MAX_STACK of fs/overlayfs/params.h. */
export const MAX_LAYERS = 500;

function check(overlay: Overlay): void {
  const { lower, data = [], upper, work } = overlay;
  const fail = (message: string): never => {
    throw new GearError('invalid-argument', `overlay: ${message}`);
  };
  if (lower.length === 0) fail('at least one lower directory is needed');
  if ((upper === undefined) !== (work === undefined))
    fail('an upper directory needs a work directory, and the other way round');
  if (upper === undefined && lower.length + data.length < 2)
    fail('without an upper directory at least two lower directories, or one and a data directory, are needed');
  if (lower.length + data.length > MAX_LAYERS)
    fail(`${lower.length + data.length} layers; the kernel takes ${MAX_LAYERS}`);
  if (data.length > 0 && overlay.metacopy === false) fail('data directories need metacopy');
  if ((overlay.metacopy ?? data.length > 0) && overlay.redirectDirectories === false) fail('metacopy needs redirects');
  for (const path of [...lower, ...data, upper, work]) {
    if (path === undefined) continue;
    if (!path.startsWith('/')) fail(`${JSON.stringify(path)} is not an absolute path`);
    if (path.includes('\0')) fail(`${JSON.stringify(path)} contains a NUL byte`);
  }
}

/**
 * What overlayfs has to be told, in order. Nothing is left to the kernel's build-time defaults, which differ between
 * distributions: index is off (layers are shared by mounts), metacopy and redirect_dir are said either way. Throws invalid-argument.
 */
export function overlayOptions(overlay: Overlay): OverlayOption[] {
  check(overlay);
  const { lower, data = [], upper, work } = overlay;
  const metacopy = overlay.metacopy ?? data.length > 0;
  const redirect = overlay.redirectDirectories ?? metacopy;
  const options: OverlayOption[] = [];
  const text = (key: string, value: string) => options.push({ key, kind: 'text', value });
  const path = (key: (OverlayOption & { kind: 'path' })['key'], value: string) =>
    options.push({ key, kind: 'path', value });
  text('index', 'off');
  text('metacopy', metacopy ? 'on' : 'off');
  // "off" would follow or not as the kernel was built.
  text('redirect_dir', redirect ? 'on' : 'nofollow');
  if (overlay.xino !== undefined) text('xino', overlay.xino);
  if (overlay.label !== undefined && overlay.label !== '') text('context', overlay.label);
  for (const directory of lower) path('lowerdir+', directory);
  for (const directory of data) path('datadir+', directory);
  if (upper !== undefined && work !== undefined) {
    path('upperdir', upper);
    path('workdir', work);
  }
  return options;
}

/** A path inside mount(2)'s option string: overlayfs undoes these backslashes (ovl_unescape of fs/overlayfs/params.c). */
export function escapePath(path: string): string {
  return path.replace(/[\\,:]/g, '\\$&');
}

/** The same as one string for mount(2): `lowerdir=a:b::data`. */
export function overlayOptionString(options: readonly OverlayOption[]): string {
  const words: string[] = [];
  let lowerdir = '';
  for (const option of options) {
    const value = option.kind === 'path' ? escapePath(option.value) : option.value;
    if (option.key === 'lowerdir+') lowerdir += (lowerdir === '' ? '' : ':') + value;
    else if (option.key === 'datadir+') lowerdir += `::${value}`;
    // A label has commas of its own; selinux(8) takes it in quotes.
    else words.push(`${option.key}=${option.key === 'context' ? `"${value}"` : value}`);
  }
  return [`lowerdir=${lowerdir}`, ...words].join(',');
}
