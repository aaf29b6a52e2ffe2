import type { DirectoryEntry } from '../kernel/fuse/directory.ts';
import type { Entry } from '../kernel/fuse/reply.ts';

/**
 * The names of a folder from `offset` on: ".", "..", then `count` more, each made only when it is its turn. Offset n stands for the n-th name, so that
 * reading can go on anywhere, in whichever process.
 */
export function* listFolder(
  self: Entry,
  offset: number,
  count: number,
  at: (index: number) => { readonly name: string; readonly entry: Entry },
): Generator<DirectoryEntry> {
  for (let i = offset; i < count + 2; i++) {
    if (i === 0) yield { name: '.', entry: self, next: 1 };
    else if (i === 1) yield { name: '..', entry: self, next: 2 };
    else yield { ...at(i - 2), next: i + 1 };
  }
}
