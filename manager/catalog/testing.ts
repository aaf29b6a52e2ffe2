import { mkdtemp, rm } from 'node:fs/promises';
import { type Digest, digestOf } from '#core/digest.ts';
import { encodeIndex } from '#core/index/encode.ts';
import { DEFAULT_CHUNK_SIZE, emptyDirectory, type Tree } from '#core/index/tree.ts';
import { silentLogger } from '#core/log.ts';
import type { ImageRecord } from '../store/record.ts';
import { randomObject } from '../store/testing.ts';
import { openStore, type Store, type StoreOptions } from './store.ts';

/** For tests: a folder for a store, which goes with it. */
export async function temporaryRoot(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp('/tmp/gear-');
  return { path, [Symbol.asyncDispose]: async () => await rm(path, { recursive: true, force: true }) };
}

/** For tests: opens the store in a folder, saying nothing. */
export async function quietStore(root: string, options: Partial<StoreOptions> = {}): Promise<Store> {
  return await openStore({ root, log: silentLogger(), grace: 1, ...options });
}

/** For tests: a tree with a file for each content, all of a chunk at most. */
export function treeOf(contents: readonly Buffer[], kind: Tree['kind'] = 'image'): Tree {
  const root = emptyDirectory();
  for (const [at, bytes] of contents.entries()) {
    root.children.set(`file-${at}`, {
      type: 'file',
      mode: 0o644,
      uid: 0,
      gid: 0,
      mtimeSeconds: 1_700_000_000,
      mtimeNanoseconds: 0,
      xattrs: new Map(),
      size: bytes.length,
      digest: digestOf(bytes),
      chunkDigests: Buffer.alloc(0),
    });
  }
  return { kind, chunkSize: DEFAULT_CHUNK_SIZE, root };
}

/** For tests: stores contents as objects. */
export async function addObjects(store: Store, contents: readonly Buffer[]): Promise<void> {
  await using batch = store.objects.batch();
  for (const bytes of contents) await batch.addBytes(bytes);
  await batch.commit();
}

/** For tests: random contents. */
export function randomContents(count: number, size = 100): Buffer[] {
  return [...Array(count)].map((_, at) => randomObject(size + at).bytes);
}

/** For tests: the record of an image that has one layer. */
export function recordOf(source: string, indexDigest: Digest, change: Partial<ImageRecord> = {}): ImageRecord {
  return {
    source,
    destination: '',
    sourceDigest: digestOf(Buffer.from(`source ${source} ${indexDigest}`)),
    gearDigest: undefined,
    platform: { os: 'linux', architecture: 'amd64', variant: '' },
    indexDigest,
    indexSize: 100,
    layers: [],
    objects: 1,
    objectBytes: 1,
    fileBytes: 1,
    entries: 2,
    config: Buffer.from('{"architecture":"amd64"}'),
    configMediaType: 'application/vnd.oci.image.config.v1+json',
    convertedAt: 1_750_000_000_000,
    warnings: [],
    ...change,
  };
}

/** For tests: stores an image of these contents as a conversion does. */
export async function addImage(
  store: Store,
  source: string,
  contents: readonly Buffer[],
  change: Partial<ImageRecord> = {},
): Promise<ImageRecord> {
  await addObjects(store, contents);
  const layer = await store.putIndex(encodeIndex(treeOf(contents, 'layer')));
  const index = await store.putIndex(encodeIndex(treeOf(contents)));
  const digest = (what: string) => digestOf(Buffer.from(`${what} ${index}`));
  const layers = [
    {
      blobDigest: digest('blob'),
      diffId: digest('diff'),
      indexDigest: layer,
      blobSize: 10,
      tarSize: 20,
      linkedBelow: false,
      warnings: [],
    },
  ];
  return await store.putImage(recordOf(source, index, { layers, ...change }));
}
