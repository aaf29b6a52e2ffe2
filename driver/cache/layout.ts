import { join } from 'node:path';
import { type Digest, digestOf } from '#core/digest.ts';
import { type NodePaths, nodePaths } from '../paths.ts';
import type { WantedObject } from './object.ts';

/**
 * Where the caches keep things, below the node's root:
 *
 *     public/aa/bbbb...                      verified objects
 *     private/<image>/aa/bbbb...             hard links to them
 *     partial/<digest>-<chunks>.data, .map   an object of which some chunks are here; <chunks>: the first 16 digits of the sha256 of its chunk list,
 *                                            so that an image whose index lies about an object's chunks shares them with nobody
 *     partial/.tmp-...                       on its way into public/
 *     cache-mark.json                        up to when what is in the caches has been flushed
 */
export class CacheLayout {
  readonly paths: NodePaths;
  readonly partial: string;
  readonly mark: string;

  /** `root` is absolute. */
  constructor(root: string) {
    this.paths = nodePaths(root);
    this.partial = join(root, 'partial');
    this.mark = join(root, 'cache-mark.json');
  }

  // Built by hand: these are on the path of every first touch, and join() would take longer than the system call behind.
  publicFolder(prefix: string): string {
    return `${this.paths.public}/${prefix}`;
  }

  publicFile(digest: Digest): string {
    return `${this.paths.public}/${digest.slice(0, 2)}/${digest.slice(2)}`;
  }

  privateFolder(image: Digest): string {
    return `${this.paths.private}/${image}`;
  }

  privateFile(image: Digest, digest: Digest): string {
    return `${this.paths.private}/${image}/${digest.slice(0, 2)}/${digest.slice(2)}`;
  }

  /** The partial object's files without their endings. */
  partialFile(object: WantedObject): string {
    return `${this.partial}/${object.digest}-${digestOf(object.chunkDigests).slice(0, 16)}`;
  }
}
