import type { ByteString } from '#core/index/tree.ts';
import type { TarHeader } from '#core/tar/entry.ts';
import { writeTar } from '#core/tar/writer.ts';

export interface LayerEntry extends Partial<Omit<TarHeader, 'path' | 'xattrs'>> {
  readonly path: ByteString;
  /** Of a file; also gives its size. */
  readonly body?: string | Buffer;
  readonly xattrs?: Readonly<Record<string, string | Buffer>>;
}

/** An entry that has all it was not told: a file if it has a body or nothing else says otherwise, a directory with a slash at the end. */
function headerOf({ path, body, xattrs = {}, ...rest }: LayerEntry): TarHeader {
  const type = rest.type ?? (path.endsWith('/') ? 'directory' : rest.link === undefined ? 'file' : 'symlink');
  return {
    path,
    mode: type === 'directory' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    mtimeSeconds: 1_000_000_000,
    mtimeNanoseconds: 0,
    size: type === 'file' ? Buffer.byteLength(body ?? '') : 0,
    link: '',
    major: 0,
    minor: 0,
    ...rest,
    type,
    xattrs: new Map(Object.entries(xattrs).map(([name, value]) => [name, Buffer.from(value)])),
  };
}

/** A layer's tar, whole. */
export async function layerTar(entries: readonly LayerEntry[]): Promise<Buffer> {
  async function* items() {
    for (const entry of entries) {
      const header = headerOf(entry);
      const body = Buffer.from(entry.body ?? '');
      async function* content() {
        yield body;
      }
      yield header.size > 0 ? { header, content: content() } : { header };
    }
  }
  return Buffer.concat(await Array.fromAsync(writeTar(items())));
}
