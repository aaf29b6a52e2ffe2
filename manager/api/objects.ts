import { type Digest, digestFromBytes, digestToBytes } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { MAX_DIGESTS_PER_REQUEST } from '#core/grpc/limits.ts';
import { toStatus } from '#core/grpc/status.ts';
import {
  type ContentStoreServer,
  ContentStoreService,
  type Range,
  type ReadManyResponse,
} from '#proto/gen/gear/v1/objects.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { CallContext, Handlers, Send } from './handlers.ts';
import type { Counter } from './metrics.ts';
import { type PrefetchParts, prefetchHandler } from './prefetch.ts';
import { untilAborted } from './until-aborted.ts';
import { receiveObjects } from './upload.ts';

export interface ContentStoreParts extends PrefetchParts {
  readonly objects: ObjectStore;
  readonly handlers: Handlers;
  readonly servedObjects: Counter;
  readonly servedBytes: Counter;
  readonly storedObjects: Counter;
  readonly storedBytes: Counter;
}

/** The content store service of objects.proto over an object store. */
export function contentStoreService(parts: ContentStoreParts): ContentStoreServer {
  const { objects, handlers } = parts;
  return {
    findMissing: handlers.unary(ContentStoreService.findMissing, async ({ digests }, { signal }) => {
      if (digests.length > MAX_DIGESTS_PER_REQUEST) {
        throw new GearError(
          'invalid-argument',
          `${digests.length} digests in one request; at most ${MAX_DIGESTS_PER_REQUEST} are taken`,
        );
      }
      const missing = await objects.missing(digests.map(digestFromBytes), { signal });
      return { digests: missing.map(digestToBytes) };
    }),
    read: handlers.serverStream(ContentStoreService.read, async ({ range }, send, { signal, transfer }) => {
      transfer.what = 'object';
      await sendRange(parts, readRange(range), { signal, transfer }, (data) => send({ data }));
    }),
    readMany: handlers.exchange(ContentStoreService.readMany, async (requests, send, context) => {
      context.transfer.what = 'objects';
      for await (const { ranges } of untilAborted(requests, context.draining)) {
        for (const range of ranges) await answerRange(parts, range, send, context);
      }
    }),
    prefetch: prefetchHandler(parts),
    write: handlers.clientStream(ContentStoreService.write, async (requests, { signal, transfer }) => {
      transfer.what = 'upload of objects';
      const stored = await receiveObjects(objects, requests, { signal, transfer });
      parts.storedObjects.add(stored.objects);
      parts.storedBytes.add(stored.bytes);
      return { objects: BigInt(stored.objects), bytes: BigInt(stored.bytes) };
    }),
  };
}

interface WantedRange {
  readonly digest: Digest;
  readonly offset: number;
  readonly length: number;
}

function readRange(range: Range | undefined): WantedRange {
  if (range === undefined) throw new GearError('invalid-argument', 'the request has no range');
  const { digest, offset, length } = range;
  // Beyond what a number holds exactly there is certainly no byte of an object.
  if (offset > Number.MAX_SAFE_INTEGER) throw new GearError('out-of-range', `there is nothing at offset ${offset}`);
  return { digest: digestFromBytes(digest), offset: Number(offset), length: Number(length) };
}

async function sendRange(
  { objects, servedObjects, servedBytes }: ContentStoreParts,
  { digest, offset, length }: WantedRange,
  { signal, transfer }: Pick<CallContext, 'signal' | 'transfer'>,
  send: (data: Buffer) => Promise<void> | undefined,
): Promise<void> {
  servedObjects.add();
  const small = await objects.readSmall(digest, { offset, length });
  if (small !== undefined) {
    servedBytes.add(small.length);
    transfer.sent(small.length);
    await send(small);
    return;
  }
  for await (const piece of objects.read(digest, { offset, length, signal })) {
    servedBytes.add(piece.length);
    transfer.sent(piece.length);
    await send(piece);
  }
}

const NOTHING = Buffer.alloc(0);

/** Answers one range of many: its pieces, the last of them marked; or the status of its own that says why not. */
async function answerRange(
  parts: ContentStoreParts,
  range: Range,
  send: Send<ReadManyResponse>,
  { signal, log, transfer }: CallContext,
): Promise<void> {
  // The mark goes on the last piece, so each is held back until the next one is there.
  let held: Buffer | undefined;
  try {
    await sendRange(parts, readRange(range), { signal, transfer }, (data) => {
      const before = held;
      held = data;
      return before === undefined ? undefined : send({ data: before, last: false, code: 0, message: '' });
    });
  } catch (error) {
    signal.throwIfAborted();
    const { code, details } = toStatus(error);
    log.debug({ err: error }, 'a range could not be read');
    await send({ data: NOTHING, last: true, code, message: details });
    return;
  }
  await send({ data: held ?? NOTHING, last: true, code: 0, message: '' });
}
