import { GearError } from '#core/errors.ts';
import type { IndexPiece } from '#proto/gen/gear/v1/images.ts';

/** More than any image's index needs: about four million names. */
const MAX_INDEX_BYTES = 512 * 1024 * 1024;

/** The bytes of an index that comes in pieces. Throws resource-exhausted for more than an index may have. */
export async function receiveIndex(pieces: AsyncIterable<IndexPiece>): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const { data } of pieces) {
    bytes += data.length;
    if (bytes > MAX_INDEX_BYTES) {
      throw new GearError('resource-exhausted', `an index of more than ${MAX_INDEX_BYTES} bytes is not taken`);
    }
    parts.push(data);
  }
  return Buffer.concat(parts, bytes);
}
