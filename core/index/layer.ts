import type { Abortable } from '../abort.ts';
import { type Digest, isDigest } from '../digest.ts';
import { GearError } from '../errors.ts';
import type { TarEntry } from '../tar/entry.ts';
import { overLimit } from '../tar/limits.ts';
import { showPath, splitPath, whiteoutTarget } from '../tar/path.ts';
import { chunkDigestBytes } from './chunks.ts';
import { LayerBuilder } from './layer-builder.ts';
import { DEFAULT_INDEX_LIMITS, type IndexLimits, MAX_MAJOR, MAX_MINOR } from './limits.ts';
import type { ByteString, Metadata, Tree } from './tree.ts';
import { isOverlayXattr, NO_XATTRS } from './xattrs.ts';

/** Takes the contents of regular files while a layer is read. */
export interface ObjectSink {
  /** Takes a content of `size` (more than 0) bytes to its end; gives its digest and, above one chunk, its chunks' digests. */
  add(content: AsyncIterable<Buffer>, size: number): Promise<{ digest: Digest; chunkDigests: Buffer }>;
}

export interface LayerOptions extends Abortable {
  /** Bytes. */
  readonly chunkSize: number;
  /** What the layers below look like stacked: hard links may name what is there. */
  readonly lower?: Tree | undefined;
  readonly limits?: Partial<IndexLimits>;
}

/**
 * The tree of one layer, and its contents to `sink`. The result is what Docker 20.10 with overlay2 has in the layer's own directory after
 * it extracted the tar, with whiteouts and opaque directories as data; design notes are at LayerBuilder and HardLinks. Differences,
 * all towards more: the root's own entry sets the root's metadata (Docker skips it), hard links may come before their target or name
 * one of the layers below.
 *
 * Throws GearError: what readTar throws; invalid-argument for paths, links and devices that cannot be; resource-exhausted over a limit;
 * what the sink throws.
 */
export async function layerFromTar(
  entries: AsyncIterable<TarEntry>,
  sink: ObjectSink,
  { chunkSize, lower, limits, signal }: LayerOptions,
): Promise<{ tree: Tree; warnings: string[] }> {
  const reader = new LayerReader(sink, chunkSize, { ...DEFAULT_INDEX_LIMITS, ...limits }, lower);
  for await (const entry of entries) {
    signal?.throwIfAborted();
    await reader.add(entry);
  }
  return reader.finish();
}

class LayerReader {
  readonly #sink: ObjectSink;
  readonly #chunkSize: number;
  readonly #limits: IndexLimits;
  readonly #builder: LayerBuilder;
  readonly #overlayXattrs = new Dropped('attributes of overlayfs itself', 'were dropped');
  readonly #deviceWhiteouts = new Dropped(
    'character devices 0:0',
    'were taken as whiteouts, which they are to overlayfs',
  );
  #totalBytes = 0;

  constructor(sink: ObjectSink, chunkSize: number, limits: IndexLimits, lower: Tree | undefined) {
    this.#sink = sink;
    this.#chunkSize = chunkSize;
    this.#limits = limits;
    this.#builder = new LayerBuilder(limits, lower);
  }

  async add(entry: TarEntry): Promise<void> {
    const components = splitPath(entry.path, this.#limits);
    const marker = whiteoutTarget(components.at(-1) ?? '');
    if (marker?.kind === 'whiteout') this.#builder.whiteout(components.with(-1, marker.name));
    else if (marker?.kind === 'opaque') this.#builder.opaque(components);
    else await this.#place(components, entry);
  }

  finish(): { tree: Tree; warnings: string[] } {
    const tree = this.#builder.finish(this.#chunkSize);
    const warnings = [this.#overlayXattrs.warning, this.#deviceWhiteouts.warning];
    return { tree, warnings: warnings.filter((warning) => warning !== undefined) };
  }

  async #place(components: ByteString[], entry: TarEntry): Promise<void> {
    const { type, link: target, major, minor } = entry;
    switch (type) {
      case 'directory':
        this.#builder.directory(components, this.#metadata(entry));
        break;
      case 'file':
        // Before the content is taken: what has no place in the tree needs no object.
        this.#builder.parentOf(components);
        this.#builder.place(components, { type, ...this.#metadata(entry), ...(await this.#content(entry)) });
        break;
      case 'symlink':
        this.#checkTarget(entry);
        this.#builder.place(components, { type, ...this.#metadata(entry), target });
        break;
      case 'hard-link':
        this.#hardLink(components, entry);
        break;
      case 'character-device':
      case 'block-device':
        if (major < 0 || major > MAX_MAJOR || minor < 0 || minor > MAX_MINOR) {
          throw refused(entry, `is the device ${major}:${minor}; Linux has up to ${MAX_MAJOR}:${MAX_MINOR}`);
        }
        if (type === 'character-device' && major === 0 && minor === 0) {
          this.#deviceWhiteouts.count(showPath(entry.path));
          this.#builder.whiteout(components);
        } else this.#builder.place(components, { type, ...this.#metadata(entry), major, minor });
        break;
      case 'fifo':
        this.#builder.place(components, { type, ...this.#metadata(entry) });
        break;
    }
  }

  #hardLink(components: ByteString[], entry: TarEntry): void {
    const target = splitPath(entry.link, this.#limits);
    if (target.length === components.length && target.every((name, depth) => name === components[depth])) {
      throw refused(entry, 'is a hard link to itself');
    }
    this.#builder.hardLink(components, target, this.#metadata(entry));
  }

  async #content(entry: TarEntry): Promise<{ size: number; digest: Digest | undefined; chunkDigests: Buffer }> {
    const { size } = entry;
    if (size === 0) return { size, digest: undefined, chunkDigests: NO_CHUNKS };
    this.#totalBytes += size;
    if (this.#totalBytes > this.#limits.totalBytes) {
      const what = `with ${showPath(entry.path)} the layer has ${this.#totalBytes} bytes`;
      throw overLimit('totalBytes', this.#limits.totalBytes, what);
    }
    const { digest, chunkDigests } = await this.#sink.add(entry.content, size);
    if (!isDigest(digest) || chunkDigests.length !== chunkDigestBytes(size, this.#chunkSize)) {
      throw new GearError('internal', `the sink's digests of ${showPath(entry.path)} do not fit its ${size} bytes`);
    }
    return { size, digest, chunkDigests };
  }

  #checkTarget(entry: TarEntry): void {
    const { length } = entry.link;
    const { targetBytes } = this.#limits;
    if (length === 0 || length > targetBytes || entry.link.includes('\0')) {
      throw refused(entry, `has a target of ${length} bytes; 1 to ${targetBytes} without NUL are allowed`);
    }
  }

  #metadata(entry: TarEntry): Metadata {
    const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds } = entry;
    return { mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs: this.#xattrs(entry) };
  }

  #xattrs({ path, xattrs }: TarEntry): Map<ByteString, Buffer> {
    if (xattrs.size === 0) return NO_XATTRS;
    const kept = new Map<ByteString, Buffer>();
    for (const [name, value] of xattrs) {
      if (isOverlayXattr(name)) this.#overlayXattrs.count(`${name} of ${showPath(path)}`);
      else kept.set(name, value);
    }
    return kept.size === 0 ? NO_XATTRS : kept;
  }
}

/** Counts what was not taken as it is, for one warning a layer. */
class Dropped {
  readonly #what: string;
  readonly #fate: string;
  #count = 0;
  #first = '';

  constructor(what: string, fate: string) {
    this.#what = what;
    this.#fate = fate;
  }

  count(example: string): void {
    if (this.#count++ === 0) this.#first = example;
  }

  get warning(): string | undefined {
    return this.#count === 0 ? undefined : `${this.#count} ${this.#what} ${this.#fate}; the first: ${this.#first}`;
  }
}

const NO_CHUNKS = Buffer.alloc(0);

function refused(entry: TarEntry, problem: string): GearError {
  return new GearError('invalid-argument', `the entry ${showPath(entry.path)} ${problem}`);
}
