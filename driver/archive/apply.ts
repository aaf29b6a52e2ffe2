import type { Abortable } from '#core/abort.ts';
import { GearError } from '#core/errors.ts';

export interface ApplyOptions extends Abortable {
  /**
   * `overlay`: into the fresh folder of a layer; what is deleted becomes a character device 0:0, an opaque directory gets
   * `trusted.overlay.opaque`. `plain`: onto a tree; what is deleted is removed from it.
   */
  readonly format: 'overlay' | 'plain';
}

/** Applies an uncompressed layer tar to the folder `directory`, which exists. Gives the bytes of the regular files that it brought. */
export async function applyLayer(
  _source: AsyncIterable<Uint8Array>,
  _directory: string,
  _options: ApplyOptions,
): Promise<{ size: number }> {
  throw new GearError('unsupported', 'not there yet');
}
