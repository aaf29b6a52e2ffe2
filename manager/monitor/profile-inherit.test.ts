import { expect, test } from 'vitest';
import { digestOf, digestToBytes } from '#core/digest.ts';
import { emptyDirectory, type RegularFile, type Tree } from '#core/index/tree.ts';
import { Profile } from './profile.ts';
import { inheritProfile } from './profile-inherit.ts';

const CHUNK = 4096;
const [before, after] = [digestOf(Buffer.from('before')), digestOf(Buffer.from('after'))];

function fileOf(content: Buffer): RegularFile {
  const chunks: Buffer[] = [];
  for (let at = 0; content.length > CHUNK && at < content.length; at += CHUNK)
    chunks.push(digestToBytes(digestOf(content.subarray(at, at + CHUNK))));
  return {
    ...{ mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0, xattrs: new Map() },
    type: 'file',
    size: content.length,
    digest: digestOf(content),
    chunkDigests: Buffer.concat(chunks),
  };
}

function treeOf(files: Readonly<Record<string, Buffer>>): Tree {
  const root = emptyDirectory();
  for (const [name, content] of Object.entries(files)) root.children.set(name, fileOf(content));
  return { kind: 'image', chunkSize: CHUNK, root };
}

const item = (content: Buffer, chunk: number, milliseconds: number) => ({
  digest: digestOf(content),
  chunk,
  bytes: Math.min(CHUNK, content.length - chunk * CHUNK),
  seen: 5,
  skipped: 0,
  milliseconds,
});

test('a new version starts with what is the same, wherever it lies, and with the same chunks of what has changed', () => {
  const [same, old, fresh, gone, moved] = ['same', 'old', 'fresh', 'gone', 'moved'].map((name, i) =>
    Buffer.alloc(CHUNK * 2 + i, name),
  ) as [Buffer, Buffer, Buffer, Buffer, Buffer];
  const shorter = fresh.subarray(0, CHUNK + 9);
  const profile = new Profile({ image: before, chunkSize: CHUNK, runs: 5, inheritedFrom: undefined, updatedAt: 0 }, [
    item(same, 1, 30),
    item(old, 0, 20),
    item(old, 1, 5),
    item(old, 2, 6),
    item(gone, 0, 1),
    item(moved, 0, 7),
  ]);
  const found = inheritProfile(
    profile,
    treeOf({ same, changed: old, gone, here: moved }),
    after,
    treeOf({ same, changed: shorter, there: moved, other: fresh }),
  );
  expect(found?.chosen().map(({ digest, chunk, bytes }) => [digest, chunk, bytes])).toEqual([
    [digestOf(shorter), 1, 9],
    [digestOf(moved), 0, CHUNK],
    [digestOf(shorter), 0, CHUNK],
    [digestOf(same), 1, CHUNK],
  ]);
  expect(found).toMatchObject({ runs: 1, inheritedFrom: before, image: after });
  expect(inheritProfile(profile, treeOf({ same }), after, treeOf({ fresh }))).toBeUndefined();
});
