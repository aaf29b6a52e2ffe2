import { GearError } from '#core/errors.ts';
import type { Mount } from '#proto/gen/containerd/types/mount.ts';
import { MOUNT_DATA_MAX } from '../kernel/mount.ts';
import { type Overlay, overlayOptionString, overlayOptions } from '../kernel/overlay-options.ts';
import type { MountPlan } from '../snapshots/plan.ts';

/** containerd's own client shortens the paths of longer options, which it cannot where data-only layers are among them (mount_linux.go). */
const COMFORTABLE = MOUNT_DATA_MAX - 512;

/**
 * What the client is to mount for a plan. `lazy`: there are lazy layers in it, so chmod and chown must not copy contents. Renamed directories are
 * followed in any case. Throws resource-exhausted where the paths do not fit into one page.
 */
export function clientMounts(
  plan: MountPlan,
  { lazy, readOnly }: { readonly lazy: boolean; readonly readOnly: boolean },
): Mount[] {
  if (plan.kind === 'folder') {
    return [{ type: 'bind', source: plan.path, target: '', options: [readOnly ? 'ro' : 'rw', 'rbind'] }];
  }
  const overlay: Overlay = {
    lower: plan.lower,
    data: plan.data,
    ...plan.upper,
    metacopy: lazy,
    redirectDirectories: true,
    ...(lazy ? { xino: 'auto' } : {}),
  };
  const options = overlayOptionString(overlayOptions(overlay));
  const size = Buffer.byteLength(options);
  if (size > (plan.data.length > 0 ? MOUNT_DATA_MAX : 2 * COMFORTABLE)) {
    throw new GearError(
      'resource-exhausted',
      `${plan.lower.length} layers make mount options of ${size} bytes, and the kernel takes ${MOUNT_DATA_MAX}: give the driver a shorter --root`,
    );
  }
  // containerd looks at options one by one: it takes the lower directories and the upper one from here when it unpacks a layer.
  return [{ type: 'overlay', source: 'gear', target: '', options: splitOptions(options) }];
}

/** Commas in paths have a backslash in front. */
function splitOptions(options: string): string[] {
  return options.split(/(?<!\\),/);
}
