import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GearError, isErrno, isGearError, messageOf } from '#core/errors.ts';
import { MOUNT_DATA_MAX, mount } from './mount.ts';
import { FilesystemContext } from './mount-api.ts';
import { type Overlay, type OverlayOption, overlayOptionString, overlayOptions } from './overlay-options.ts';

export type { Overlay } from './overlay-options.ts';

/** How a mount is made: by fsconfig(2) (kernel 6.7: no limit on layers' paths), or by mount(2) with one page of options. */
export type MountMethod = 'fsconfig' | 'mount';

/** Error numbers of overlayfs and what they usually mean; its own words go to the kernel's log only. */
const CAUSES: Readonly<Record<string, string>> = {
  EINVAL:
    'the kernel is too old for one of these options (data directories: 6.5), the upper filesystem has no d_type or no trusted xattrs (NFS, another overlay), work is not on the filesystem of upper, or layers are stacked more than two deep',
  ENOENT: 'one of the folders does not exist',
  ENOTDIR: 'one of the layers is not a folder',
  ESTALE: 'the upper directory was used with other lower directories before',
  EBUSY: 'the upper or work directory is in use by another mount',
  ENODEV: 'the kernel has no overlayfs',
  ENOSYS: 'the filesystem of a lower directory (FUSE) does not answer STATFS',
  ENOTCONN: 'the server of a FUSE layer is gone',
  EROFS: 'the upper directory lies on a read-only filesystem',
  ELOOP: 'a layer contains another layer, the upper or the work directory',
  EPERM: 'this user may not mount overlayfs',
};

function probableCause(errno: string, error: unknown): string | undefined {
  const { path = '' } = error as NodeJS.ErrnoException;
  if (path.startsWith('context=')) return 'SELinux is not enabled in this kernel: give no label';
  return CAUSES[errno];
}

function explain(error: unknown, target: string, options: readonly OverlayOption[], messages: string[]): GearError {
  const name = (error as NodeJS.ErrnoException).code ?? '';
  const layers = options.filter(({ key }) => key === 'lowerdir+').length;
  const shown = options
    .filter(({ key }) => key !== 'lowerdir+' || layers <= 4)
    .map(({ key, value }) => `${key}=${value}`)
    .join(' ');
  const count = layers > 4 ? ` (and ${layers} lower directories)` : '';
  const said = messages.length > 0 ? `; the kernel says: ${messages.join('; ')}` : '';
  const cause = probableCause(name, error);
  const probably = cause === undefined ? '' : `; probably: ${cause}`;
  return new GearError(
    name === 'ENOENT' ? 'not-found' : 'failed-precondition',
    `overlay at ${target} was refused: ${messageOf(error)}; options: ${shown}${count}${said}${probably}`,
    { cause: error, fields: { target, errno: name } },
  );
}

async function byFsconfig(target: string, options: readonly OverlayOption[], source: string): Promise<void> {
  using context = new FilesystemContext('overlay');
  try {
    context.setString('source', source);
    for (const option of options) {
      if (option.kind === 'text') context.setString(option.key, option.value);
      // Of all path options only these two undo backslashes (ovl_mount_dir of fs/overlayfs/params.c).
      else if (option.key === 'upperdir' || option.key === 'workdir')
        context.setPath(option.key, option.value, option.value.replaceAll('\\', '\\\\'));
      else context.setPath(option.key, option.value);
    }
    await context.mount(target);
  } catch (error) {
    throw explain(error, target, options, context.messages());
  }
}

async function byMount(target: string, options: readonly OverlayOption[], source: string): Promise<void> {
  const record = (list: readonly OverlayOption[]) => ({
    type: 'overlay',
    source,
    target,
    options: [overlayOptionString(list)],
  });
  try {
    if (Buffer.byteLength(overlayOptionString(options)) <= MOUNT_DATA_MAX) {
      await mount(record(options));
      return;
    }
    // Node cannot change the directory of one thread, so long paths are shortened by links. The kernel follows them while it mounts and
    // never again.
    await using links = await shortLinks(options);
    await mount(record(links.options));
  } catch (error) {
    throw isGearError(error) ? error : explain(error, target, options, []);
  }
}

async function shortLinks(options: readonly OverlayOption[]): Promise<AsyncDisposable & { options: OverlayOption[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'gl-'));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true }));
  const linked: OverlayOption[] = [];
  for (const [number, option] of options.entries()) {
    if (option.kind === 'text') linked.push(option);
    else {
      const link = join(folder, number.toString(36));
      await symlink(option.value, link);
      linked.push({ ...option, value: link });
    }
  }
  const held = stack.move();
  return { options: linked, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** Kernels without `lowerdir+` answer this before anything else was done. */
function methodIsMissing(error: unknown): boolean {
  if (isErrno(error, 'ENOSYS')) return true;
  if (!isGearError(error) || !isErrno(error.cause, 'EINVAL', 'ENOSYS')) return false;
  const { syscall, path } = error.cause;
  return syscall === 'fsconfig' && /^(lowerdir|datadir)\+=/.test(path ?? '');
}

/**
 * Mounts an overlay at `target` (an existing folder). `source` is only shown in lists of mounts. Without `method` fsconfig is tried first
 * and mount(2) where the kernel has no `lowerdir+`. Throws failed-precondition, with the options and the probable cause, or not-found.
 */
export async function mountOverlay(
  target: string,
  overlay: Overlay,
  { source = 'overlay', method }: { source?: string; method?: MountMethod } = {},
): Promise<MountMethod> {
  const options = overlayOptions(overlay);
  if (method !== 'mount') {
    try {
      await byFsconfig(target, options, source);
      return 'fsconfig';
    } catch (error) {
      if (method === 'fsconfig' || !methodIsMissing(error)) throw error;
    }
  }
  await byMount(target, options, source);
  return 'mount';
}
