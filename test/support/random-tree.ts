import type { Digest } from '#core/digest.ts';
import { ChunkHasher } from '#core/index/chunks.ts';
import type { ByteString, Directory, Inode, Metadata, Tree } from '#core/index/tree.ts';
import { Random } from './random.ts';

export interface RandomTreeOptions {
  readonly kind?: Tree['kind'];
  readonly chunkSize?: number;
  /** Names, about. */
  readonly entries?: number;
  /** Bytes of a file, at most; a few files get that much. */
  readonly fileBytes?: number;
}

/**
 * A tree with all that an index can hold: odd names, big owners, times before 1970, binary attributes, devices, hard links, equal contents, contents of several
 * chunks; in a layer whiteouts, opaque and implied directories. The same seed gives the same tree. `contents` has the bytes of each object.
 */
export function randomTree(
  seed: number,
  options: RandomTreeOptions = {},
): { tree: Tree; contents: Map<Digest, Buffer> } {
  const maker = new TreeMaker(new Random(seed), options);
  return { tree: maker.tree, contents: maker.contents };
}

class TreeMaker {
  readonly tree: Tree;
  readonly contents = new Map<Digest, Buffer>();
  readonly #random: Random;
  readonly #fileBytes: number;
  readonly #linkable: Inode[] = [];
  readonly #bodies: Buffer[] = [];

  constructor(
    random: Random,
    { kind = 'image', chunkSize = 128 * 1024, entries = 200, fileBytes = 3 * chunkSize }: RandomTreeOptions,
  ) {
    this.#random = random;
    this.#fileBytes = fileBytes;
    const root = this.#directory(kind);
    this.tree = { kind, chunkSize, root };
    const directories = [root];
    for (let count = 1; count < entries; count++) {
      const parent = random.pick(directories);
      const name = this.#name();
      if (parent.children.has(name)) continue;
      const inode = this.#inode();
      parent.children.set(name, inode);
      if (inode.type === 'directory') directories.push(inode);
    }
  }

  #inode(): Inode {
    const { kind } = this.tree;
    const dice = this.#random.next();
    if (dice < 0.2) return this.#directory(kind);
    if (dice < 0.3 && this.#linkable.length > 0) return this.#random.pick(this.#linkable);
    if (dice < 0.35 && kind === 'layer') return { type: 'whiteout' };
    const inode = this.#other(dice);
    this.#linkable.push(inode);
    return inode;
  }

  #other(dice: number): Inode {
    const random = this.#random;
    if (dice < 0.45) {
      return { type: 'symlink', ...this.#metadata(false), mode: 0o777, target: this.#name().repeat(random.int(1, 3)) };
    }
    if (dice < 0.48) {
      const type = random.pick(['character-device', 'block-device'] as const);
      return { type, ...this.#metadata(false), major: random.int(1, 4095), minor: random.int(0, 2 ** 20 - 1) };
    }
    if (dice < 0.5) return { type: 'fifo', ...this.#metadata(false) };
    const { digest, size, chunkDigests } = this.#content();
    return { type: 'file', ...this.#metadata(true), size, digest, chunkDigests };
  }

  #directory(kind: Tree['kind']): Directory {
    const isLayer = kind === 'layer';
    return {
      type: 'directory',
      ...this.#metadata(true),
      children: new Map(),
      opaque: isLayer && this.#random.chance(0.2),
      ...(isLayer && this.#random.chance(0.2) ? { implied: true } : {}),
    };
  }

  #content(): { size: number; digest: Digest | undefined; chunkDigests: Buffer } {
    const random = this.#random;
    if (random.chance(0.1)) return { size: 0, digest: undefined, chunkDigests: Buffer.alloc(0) };
    let body = this.#bodies.length > 0 && random.chance(0.2) ? random.pick(this.#bodies) : undefined;
    if (body === undefined) {
      const { chunkSize } = this.tree;
      const sizes = [1, chunkSize - 1, chunkSize, chunkSize + 1, this.#fileBytes];
      const size = Math.min(random.chance(0.05) ? random.pick(sizes) : random.int(1, 5000), this.#fileBytes);
      body = Buffer.alloc(size, random.bytes(Math.min(size, 97)));
      this.#bodies.push(body);
    }
    const { size, digest, chunkDigests } = new ChunkHasher(this.tree.chunkSize).update(body).digests();
    this.contents.set(digest, body);
    return { size, digest, chunkDigests };
  }

  /** Linux takes `user.` attributes of files and directories only. */
  #metadata(user: boolean): Metadata {
    const random = this.#random;
    const xattrs = new Map<ByteString, Buffer>();
    while (random.chance(0.15)) {
      const prefix = user ? random.pick(['user.', 'trusted.']) : 'trusted.';
      xattrs.set(`${prefix}${letters(random, random.int(1, 20))}`, random.bytes(random.int(0, 60)));
    }
    return {
      mode: random.chance(0.7) ? random.pick([0o644, 0o755, 0o600]) : random.int(0, 0o7777),
      uid: random.chance(0.8) ? 0 : random.int(0, 2 ** 32 - 2),
      gid: random.chance(0.8) ? 0 : random.int(0, 2 ** 32 - 2),
      mtimeSeconds: random.chance(0.05) ? -random.int(1, 10 ** 9) : random.int(0, 2 ** 32),
      mtimeNanoseconds: random.chance(0.7) ? 0 : random.int(0, 999_999_999),
      xattrs,
    };
  }

  #name(): ByteString {
    const random = this.#random;
    if (random.chance(0.85)) return letters(random, random.int(1, 12));
    if (random.chance(0.1)) return 'n'.repeat(255);
    const name = random.bytes(random.int(1, 20)).toString('latin1').replaceAll(/[/\0]/g, '-');
    return name === '.' || name === '..' || name.startsWith('.wh.') ? `_${name}` : name;
  }
}

function letters(random: Random, length: number): string {
  return Array.from({ length }, () => random.pick([...'abcdefghijklmnopqrstuvwxyz0123456789-_'])).join('');
}
