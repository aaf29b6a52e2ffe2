import { join } from 'node:path';

/** The driver's root where nothing else is said. */
export const DEFAULT_ROOT = '/var/lib/gear';

/** The file that the driver's options are read from where no other is named. */
export const DRIVER_CONFIG = '/etc/gear/driver.conf';

/**
 * The node's folders:
 *
 *     public/aa/bbbb...            verified objects, shared by every image
 *     private/<image>/aa/bbbb...   hard links into public/: what this image has touched
 *     partial/                     objects of which only some chunks are here
 *     remote/                      the object filesystem (FUSE), a folder for each image
 *     nfs/objects                  the manager's export, where views read from it
 *     nfs/objects.json             what is mounted there
 *     images/<image>/              an image's index and what was compiled from it
 *     run/                         sockets and state that a reboot may lose
 */
export interface NodePaths {
  readonly root: string;
  readonly public: string;
  readonly private: string;
  readonly remote: string;
  /** In it: whole trees, a folder for each image. */
  readonly trees: string;
  readonly nfs: string;
  readonly images: string;
  readonly run: string;
}

/** The folders below `root`, which has to be absolute. */
export function nodePaths(root: string): NodePaths {
  return {
    root,
    public: join(root, 'public'),
    private: join(root, 'private'),
    remote: join(root, 'remote'),
    trees: join(root, 'remote', 'tree'),
    nfs: join(root, 'nfs', 'objects'),
    images: join(root, 'images'),
    run: join(root, 'run'),
  };
}
