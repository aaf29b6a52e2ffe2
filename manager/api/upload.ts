import { digestFromBytes, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { ObjectHeader, WriteRequest } from '#proto/gen/gear/v1/objects.ts';
import type { ObjectBatch, ObjectStore } from '../store/object-store.ts';
import type { CallContext } from './handlers.ts';
import type { Transfer } from './transfers.ts';

/**
 * Stores the objects of a Write stream: each a header, then exactly as many bytes as the header says. Gives what was new once all of
 * it is durable. Throws invalid-argument, naming the digest, for bytes that are not what the header says.
 */
export async function receiveObjects(
  store: ObjectStore,
  requests: AsyncIterable<WriteRequest>,
  { signal, transfer }: Pick<CallContext, 'signal' | 'transfer'>,
): Promise<{ objects: number; bytes: number }> {
  // The client has computed what it needs of chunks.
  await using batch = store.batch({ chunkSize: Number.POSITIVE_INFINITY, claim: true });
  const parts = requests[Symbol.asyncIterator]();
  for (;;) {
    const { value, done } = await parts.next();
    signal.throwIfAborted();
    if (done === true) break;
    if (value.part?.$case !== 'header') {
      throw new GearError('invalid-argument', 'an object begins with its header, not with data');
    }
    await receiveObject(batch, value.part.value, parts, transfer);
  }
  await batch.commit();
  return { objects: batch.newObjects, bytes: batch.newBytes };
}

async function receiveObject(
  batch: ObjectBatch,
  header: ObjectHeader,
  parts: AsyncIterator<WriteRequest>,
  transfer: Transfer,
): Promise<void> {
  const digest = digestFromBytes(header.digest);
  const size = Number(header.size);
  if (size === 0 || !Number.isSafeInteger(size)) {
    throw new GearError('invalid-argument', `object ${ociDigest(digest)}: it cannot have ${header.size} bytes`);
  }
  async function* content(): AsyncGenerator<Uint8Array, void, void> {
    for (let left = size; left > 0; ) {
      const { value, done } = await parts.next();
      if (done === true || value.part?.$case !== 'data') {
        throw new GearError(
          'invalid-argument',
          `object ${ociDigest(digest)}: ${size - left} bytes instead of the announced ${size}`,
        );
      }
      left -= value.part.value.length;
      transfer.received(value.part.value.length);
      yield value.part.value;
    }
  }
  await batch.add(content(), size, digest);
}
