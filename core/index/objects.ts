import type { Digest } from '../digest.ts';
import { GearError } from '../errors.ts';
import type { Directory, RegularFile, Tree } from './tree.ts';

/** Facts about an object that the index has. */
export interface ObjectFacts {
  readonly size: number;
  /** See `RegularFile.chunkDigests`. */
  readonly chunkDigests: Buffer;
}

export interface TreeSummary {
  /** Names: hard links each, whiteouts too, and the root. As many as the encoded index has entries. */
  readonly entries: number;
  /** Regular files, several names of one counted once. */
  readonly files: number;
  /** Bytes of these. */
  readonly fileBytes: number;
  /** Distinct contents. */
  readonly objects: number;
  /** Bytes of these. */
  readonly objectBytes: number;
}

/** The objects that a tree names, in no particular order. Throws corrupt where one digest has two sizes or two rows of chunks. */
export function objectsOf(tree: Tree): Map<Digest, ObjectFacts> {
  const objects = new Map<Digest, ObjectFacts>();
  forEachFile(tree.root, (file) => {
    if (file.digest === undefined) return;
    const known = objects.get(file.digest);
    if (known === undefined) objects.set(file.digest, { size: file.size, chunkDigests: file.chunkDigests });
    else if (known.size !== file.size || !known.chunkDigests.equals(file.chunkDigests)) {
      throw new GearError('corrupt', `the object ${file.digest} appears with different sizes or chunks in one tree`);
    }
  });
  return objects;
}

/** Counts what a tree has. */
export function summarize(tree: Tree): TreeSummary {
  const files = new Set<RegularFile>();
  const entries = 1 + forEachFile(tree.root, (file) => files.add(file));
  let fileBytes = 0;
  for (const file of files) fileBytes += file.size;
  const objects = objectsOf(tree);
  let objectBytes = 0;
  for (const { size } of objects.values()) objectBytes += size;
  return { entries, files: files.size, fileBytes, objects: objects.size, objectBytes };
}

/** Calls `visit` for each name of a regular file below `directory`, and gives the number of names of any type. */
function forEachFile(directory: Directory, visit: (file: RegularFile) => void): number {
  let names = directory.children.size;
  for (const inode of directory.children.values()) {
    if (inode.type === 'directory') names += forEachFile(inode, visit);
    else if (inode.type === 'file') visit(inode);
  }
  return names;
}
