import { GearError } from '#core/errors.ts';
import type { Image, ListRequest, ListResponse } from '#proto/gen/gear/v1/images.ts';
import type { PagePosition } from '../catalog/catalog.ts';
import type { Store } from '../catalog/store.ts';
import { imageToWire } from '../converter/image-wire.ts';

const USUAL_PAGE = 100;
const MAX_PAGE = 1000;
/** Configs differ in size; a page ends where a message would become too large. */
const PAGE_BYTES = 4 * 1024 * 1024;

/** A page of images, the one converted last first. A larger page than there may be is cut. Throws invalid-argument for a token that is none. */
export function listImages(store: Store, { pageSize, pageToken }: ListRequest): ListResponse {
  const count = pageSize === 0 ? USUAL_PAGE : Math.min(pageSize, MAX_PAGE);
  // One more than asked for tells whether there is a next page.
  const found = store.list(pageToken === '' ? undefined : readToken(pageToken), count + 1);
  const images: Image[] = [];
  let bytes = 0;
  let last: PagePosition | undefined;
  for (const { id, record } of found) {
    const size = record.config.length + 500 * (1 + record.layers.length);
    if (images.length === count || (bytes + size > PAGE_BYTES && images.length > 0)) {
      return { images, nextPageToken: writeToken(last as PagePosition) };
    }
    images.push(imageToWire(record));
    bytes += size;
    last = { convertedAt: record.convertedAt, id };
  }
  return { images, nextPageToken: '' };
}

function writeToken({ convertedAt, id }: PagePosition): string {
  return Buffer.from(`${convertedAt} ${id}`).toString('base64url');
}

function readToken(token: string): PagePosition {
  const [time = '', id = '', ...rest] = Buffer.from(token, 'base64url').toString('latin1').split(' ');
  const convertedAt = Number(time);
  if (time === '' || !Number.isSafeInteger(convertedAt) || id === '' || rest.length > 0) {
    throw new GearError(
      'invalid-argument',
      `page_token ${JSON.stringify(token.slice(0, 100))} is not one that List gave`,
    );
  }
  return { convertedAt, id };
}
