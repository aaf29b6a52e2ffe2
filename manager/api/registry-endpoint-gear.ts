import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, temporaryName } from '#core/atomic-file.ts';
import { type Digest, digestOf, isDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { SingleFlight } from '#core/single-flight.ts';
import { gearImageOf } from '../converter/renew.ts';
import type { ImageRecord } from '../store/record.ts';

const KINDS = ['manifest', 'index', 'config', 'layer'] as const;
type Kind = (typeof KINDS)[number];

/** A manifest or blob that is kept as a file. */
export interface KeptFile {
  readonly kind: Kind;
  readonly digest: Digest;
  readonly path: string;
  /** Bytes. */
  readonly size: number;
}

type Images = Pick<ImageRecord, 'sourceDigest' | 'indexDigest'>;

const folderOf = ({ sourceDigest, indexDigest }: Images): string => `${sourceDigest}-${indexDigest}`;

/**
 * The Gear images that the registry endpoint has given out, by digest, as files: a folder for each, named by what it was made from, with its manifest, config
 * and layer, and the lists that it is part of. They can be made again from the store, byte by byte; kept, so that whoever has a digest can have its bytes
 * after a restart too.
 */
export class GearFiles {
  readonly #root: string;
  readonly #files = new Map<Digest, KeptFile>();
  readonly #manifests = new Map<string, KeptFile>();
  readonly #flights = new SingleFlight<string, KeptFile>();

  private constructor(root: string) {
    this.#root = root;
  }

  /** Opens the folder, which is made where it is missing. What a crash left half written is removed. */
  static async open(root: string): Promise<GearFiles> {
    await mkdir(root, { recursive: true });
    const files = new GearFiles(root);
    for (const name of await readdir(root)) if (!(await files.#adopt(name))) await files.#remove(name);
    return files;
  }

  find(digest: Digest): KeptFile | undefined {
    return this.#files.get(digest);
  }

  /** Makes the Gear image of a record, unless it is there. Gives its manifest. */
  async keep(record: ImageRecord, readIndex: () => Promise<Buffer>): Promise<KeptFile> {
    const name = folderOf(record);
    const known = this.#manifests.get(name);
    if (known !== undefined) return known;
    return await this.#flights.run(name, async () => {
      const { manifest, manifestDigest, configDigest, blobs } = await gearImageOf(record, await readIndex());
      const temporary = join(this.#root, temporaryName());
      await mkdir(temporary);
      try {
        await write(join(temporary, `manifest-${manifestDigest}`), manifest);
        for (const [digest, content] of blobs) {
          if ('file' in content) throw new GearError('internal', `the blob ${digest} of a Gear image is a file`);
          await write(join(temporary, `${digest === configDigest ? 'config' : 'layer'}-${digest}`), content);
        }
        await syncFolder(temporary);
        await rename(temporary, join(this.#root, name));
        await syncFolder(this.#root);
      } finally {
        await rm(temporary, { recursive: true, force: true });
      }
      await this.#adopt(name);
      const made = this.#manifests.get(name);
      if (made === undefined) throw new GearError('internal', `${name}: the Gear image was not written whole`);
      return made;
    });
  }

  /** Keeps a list that names the Gear image of a record, which must be there. */
  async keepList(record: Images, bytes: Buffer): Promise<KeptFile> {
    const digest = digestOf(bytes);
    const known = this.#files.get(digest);
    if (known !== undefined) return known;
    const folder = join(this.#root, folderOf(record));
    return await this.#flights.run(digest, async () => {
      const temporary = join(folder, temporaryName());
      const path = join(folder, `index-${digest}`);
      try {
        await write(temporary, bytes);
        await rename(temporary, path);
      } finally {
        await rm(temporary, { force: true });
      }
      await syncFolder(folder);
      const file = { kind: 'index', digest, path, size: bytes.length } as const;
      this.#files.set(digest, file);
      return file;
    });
  }

  /** Removes the Gear images of what the store does not have any longer. */
  async prune(has: (image: Images) => boolean): Promise<void> {
    for (const name of [...this.#manifests.keys()]) {
      const [sourceDigest = '', indexDigest = ''] = name.split('-');
      if (isDigest(sourceDigest) && isDigest(indexDigest) && has({ sourceDigest, indexDigest })) continue;
      await this.#remove(name);
    }
  }

  /** Takes up a folder that is whole; gives whether it is. */
  async #adopt(name: string): Promise<boolean> {
    if (!/^[0-9a-f]{64}-[0-9a-f]{64}$/.test(name)) return false;
    const files: KeptFile[] = [];
    for (const entry of await readdir(join(this.#root, name))) {
      const [kind, digest = ''] = entry.split('-');
      const path = join(this.#root, name, entry);
      if (isKind(kind) && isDigest(digest)) files.push({ kind, digest, path, size: (await stat(path)).size });
      else await rm(path, { force: true });
    }
    const manifest = files.find(({ kind }) => kind === 'manifest');
    if (manifest === undefined || !['config', 'layer'].every((kind) => files.some((file) => file.kind === kind))) {
      return false;
    }
    for (const file of files) this.#files.set(file.digest, file);
    this.#manifests.set(name, manifest);
    return true;
  }

  async #remove(name: string): Promise<void> {
    const folder = join(this.#root, name);
    this.#manifests.delete(name);
    for (const { digest, path } of [...this.#files.values()]) {
      if (path.startsWith(`${folder}/`)) this.#files.delete(digest);
    }
    await rm(folder, { recursive: true, force: true });
  }
}

function isKind(text: string | undefined): text is Kind {
  return KINDS.some((kind) => kind === text);
}

async function write(path: string, bytes: Uint8Array): Promise<void> {
  await using handle = await open(path, 'wx', 0o444);
  await handle.writeFile(bytes);
  await handle.sync();
}
