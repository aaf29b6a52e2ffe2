import { readdirSync, rmSync, type Stats, statSync, unlinkSync } from 'node:fs';
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryName } from '#core/atomic-file.ts';
import { type Digest, digestOf, Hasher, isDigest, ociDigest } from '#core/digest.ts';
import { GearError, isErrno } from '#core/errors.ts';
import { PIECE_BYTES } from '#core/grpc/limits.ts';
import { diskError } from './disk-error.ts';
import type { Flusher } from './flush.ts';
import type { Layout } from './layout.ts';
import type { Keeps } from './leases.ts';
import { touch } from './touch.ts';

/** Encoded indexes as files, by digest. It does not look into them. */
export class IndexStore {
  readonly #layout: Layout;
  readonly #flusher: Flusher;

  constructor(layout: Layout, flusher: Flusher) {
    this.#layout = layout;
    this.#flusher = flusher;
  }

  /** The size of an index that is there, which is then marked as used since `since`. */
  find(digest: Digest, since: number): number | undefined {
    const path = this.#layout.index(digest);
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined || stats.size === 0) return undefined;
    if (stats.mtimeMs < since) touch(path);
    return stats.size;
  }

  /** Writes an index, durably. Throws resource-exhausted when the disk is full. */
  async put(digest: Digest, bytes: Uint8Array): Promise<void> {
    const path = this.#layout.index(digest);
    const temporary = join(this.#layout.tmp, temporaryName());
    try {
      await writeFile(temporary, bytes, { flag: 'wx', mode: 0o444 });
      this.#flusher.changed(temporary);
      await this.#flusher.flush();
      touch(temporary);
      for (const folder of this.#layout.place(temporary, path)) this.#flusher.changed(folder);
      await this.#flusher.flush();
    } catch (error) {
      rmSync(temporary, { force: true });
      throw diskError(error, path);
    }
  }

  /** The whole index. Throws not-found, and corrupt where the bytes are not those of the digest. */
  async read(digest: Digest): Promise<Buffer> {
    const path = this.#layout.index(digest);
    const bytes = await readFile(path).catch((error: unknown) => {
      throw isErrno(error, 'ENOENT') ? notFound(digest) : error;
    });
    if (digestOf(bytes) !== digest) throw damaged(digest, path);
    return bytes;
  }

  /** The index in pieces; throws as `read` does, for a damaged one after its last piece. */
  async *pieces(digest: Digest): AsyncGenerator<Buffer, void, void> {
    const path = this.#layout.index(digest);
    await using handle = await open(path, 'r').catch((error: unknown) => {
      throw isErrno(error, 'ENOENT') ? notFound(digest) : error;
    });
    const hasher = new Hasher();
    for (;;) {
      const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length);
      if (bytesRead === 0) break;
      const piece = buffer.subarray(0, bytesRead);
      hasher.update(piece);
      yield piece;
    }
    if (hasher.digest() !== digest) throw damaged(digest, path);
  }

  /** Removes an index unless `keeps` says that it must stay; nobody can find it between the question and the removal. Gives whether it did. */
  remove(digest: Digest, keeps: Keeps): boolean {
    const path = this.#layout.index(digest);
    const stats: Stats | undefined = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined || keeps(stats.mtimeMs)) return false;
    unlinkSync(path);
    return true;
  }

  /** Every index. */
  list(): Digest[] {
    return this.#layout
      .foldersOf(this.#layout.indexes)
      .flatMap((prefix) => readdirSync(join(this.#layout.indexes, prefix)).map((name) => prefix + name))
      .filter(isDigest);
  }
}

function notFound(digest: Digest): GearError {
  return new GearError('not-found', `index ${ociDigest(digest)} is not in the store`, { fields: { digest } });
}

function damaged(digest: Digest, path: string): GearError {
  return new GearError(
    'corrupt',
    `index ${ociDigest(digest)} is damaged: ${path} has other bytes; convert its image again`,
    {
      fields: { digest, path },
    },
  );
}
