import type { Abortable } from '#core/abort.ts';
import type { ByteString } from '#core/index/tree.ts';
import type { Logger } from '#core/log.ts';
import type { TarLimits } from '#core/tar/limits.ts';
import { splitPath, WHITEOUT_PREFIX, whiteoutTarget } from '#core/tar/path.ts';
import { readTar } from '#core/tar/reader.ts';
import { finishLayer } from './finish-layer.ts';
import { refused } from './layer-tree.ts';
import { LayerWriter } from './layer-writer.ts';
import { Pacer } from './pacer.ts';

export interface ApplyOptions extends Abortable {
  /**
   * `overlay`: into the folder of a layer; what is deleted becomes a character device 0:0, an opaque directory gets
   * `trusted.overlay.opaque`. `plain`: onto a tree; what is deleted is removed from it.
   */
  readonly format: 'overlay' | 'plain';
  /**
   * For `overlay`: the tree that the layer will lie on, shown somewhere. With it whiteouts are written only for what there is (the kernel lists those that
   * hide nothing, and then cannot find them), a hard link may name a file that only the lower tree has (it gets a copy), below an opaque root (the
   * kernel does not heed the marker there) each name is hidden by itself, and a root that the layer does not describe keeps its
   * metadata. Without it these come out as with Docker's overlay2; the hard link is refused.
   */
  readonly lower?: string | undefined;
  readonly limits?: Partial<TarLimits> | undefined;
  /** For xattrs that cannot be set. */
  readonly log?: Logger | undefined;
}

/**
 * Applies an uncompressed layer tar to the folder `directory`, which exists. Gives the bytes of the regular files that it brought. Never writes
 * outside `directory`, never through a symlink. The result is what Docker 20.10 makes (moby pkg/archive, Unpack and UnpackLayer), parents that the
 * tar only implies included (0755 root:root, time 0 instead of now), but the order of a layer's entries matters only for names that come twice,
 * where the last one stays. Directories that were there and are not in the tar keep their times.
 *
 * A failure leaves what was written so far. Throws invalid-argument for entries that are refused, and what readTar throws.
 */
export async function applyLayer(
  source: AsyncIterable<Uint8Array>,
  directory: string,
  options: ApplyOptions,
): Promise<{ size: number }> {
  const { signal, limits } = options;
  const pacer = new Pacer({ signal });
  const writer = new LayerWriter(directory, { ...options, pacer });
  let size = 0;
  for await (const entry of readTar(source, { ...(limits === undefined ? {} : { limits }), signal })) {
    if (pacer.due) await pacer.rest();
    const path = splitPath(entry.path);
    const name = path.at(-1);
    if (path.slice(0, -1).some(isDeletionMarker)) throw refused(path, 'it lies below a whiteout');
    const whiteout = name === undefined ? undefined : whiteoutTarget(name);
    if (whiteout?.kind === 'whiteout') await writer.whiteout(path.slice(0, -1), whiteout.name);
    else if (whiteout?.kind === 'opaque') await writer.opaque(path.slice(0, -1));
    else await writer.add(path, entry);
    if (entry.type === 'file') size += entry.size;
  }
  await finishLayer(writer);
  return { size };
}

function isDeletionMarker(name: ByteString): boolean {
  return name.startsWith(WHITEOUT_PREFIX) && whiteoutTarget(name)?.kind !== 'internal';
}
