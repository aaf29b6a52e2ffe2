import { ContentStoreService, type WriteRequest } from '#proto/gen/gear/v1/objects.ts';

const { write } = ContentStoreService;
/** WriteRequest.data in objects.proto: field 2, length-delimited. */
const DATA_TAG = 0x12;

function serialize(request: WriteRequest): Buffer {
  if (request.part?.$case !== 'data') return write.requestSerialize(request);
  const data = request.part.value;
  const head = [DATA_TAG];
  let length = data.length;
  for (; length > 0x7f; length >>>= 7) head.push((length & 0x7f) | 0x80);
  head.push(length);
  return Buffer.concat([Buffer.from(head), data]);
}

/**
 * The Write call of the content store, its data messages encoded by hand: the generated code copies the bytes three times, which took a quarter of the
 * time of an upload.
 */
export const WRITE_OBJECTS = { ...write, requestSerialize: serialize };
