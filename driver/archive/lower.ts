import type { ByteString, Metadata } from '#core/index/tree.ts';
import { bytesOfPath, type FileStatus, isDirectory, namesIn, statusOfPath, toPath } from './file-status.ts';
import { metadataOf } from './metadata.ts';

/** The tree that a layer lies on, looked at without ever following a symlink. */
export class Lower {
  readonly #root: ByteString;

  constructor(root: string) {
    this.#root = bytesOfPath(root);
  }

  pathOf(path: readonly ByteString[]): Buffer {
    return toPath([this.#root, ...path].join('/'));
  }

  /** What lies at a path; undefined where nothing does, and where a component on the way is no directory. */
  status(path: readonly ByteString[]): FileStatus | undefined {
    for (let length = 0; length < path.length; length++) {
      if (!isDirectory(statusOfPath(this.pathOf(path.slice(0, length))))) return undefined;
    }
    return statusOfPath(this.pathOf(path));
  }

  /** The metadata of a directory; undefined where there is none. */
  directory(path: readonly ByteString[]): Metadata | undefined {
    const status = this.status(path);
    return isDirectory(status) ? metadataOf(this.pathOf(path), status) : undefined;
  }

  /** The names in a directory; none where there is no directory. */
  names(path: readonly ByteString[]): ByteString[] {
    return isDirectory(this.status(path)) ? namesIn(this.pathOf(path)) : [];
  }
}
