import { type Digest, digestFromBytes, digestToBytes, parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import {
  ContentStoreService,
  type PrefetchRequest,
  type PrefetchResponse,
  type PrefetchStart,
} from '#proto/gen/gear/v1/objects.ts';
import { type Frame, framesOf, LEVEL, type Piece } from '../monitor/profile-pieces.ts';
import { has, isFresh, planSteps, type Step } from '../monitor/profile-plan.ts';
import { type Profiles, piecesOf } from '../monitor/profiles.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { CallContext, Handlers, Send } from './handlers.ts';
import type { Counter } from './metrics.ts';

export interface PrefetchParts {
  readonly objects: ObjectStore;
  readonly profiles: Profiles;
  readonly handlers: Handlers;
  /** Bytes before compression, and on the wire. */
  readonly prefetchedBytes: Counter;
  readonly sentBytes: Counter;
}

/** What has been granted and not been sent yet. */
class Allowance {
  #bytes = 0;
  #wake: PromiseWithResolvers<void> | undefined;
  #ended = false;

  grant(bytes: number): void {
    this.#bytes += bytes;
    this.#wake?.resolve();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.resolve();
  }

  spend(bytes: number): void {
    this.#bytes -= bytes;
  }

  /** Waits until something may be sent; false: the client grants no more. */
  async room(signal: AbortSignal): Promise<boolean> {
    while (this.#bytes <= 0) {
      if (this.#ended) return false;
      this.#wake = Promise.withResolvers();
      await this.#wake.promise;
      signal.throwIfAborted();
    }
    return true;
  }
}

/** The Prefetch call of objects.proto. */
export function prefetchHandler(parts: PrefetchParts) {
  const { profiles, handlers } = parts;
  return handlers.exchange(
    ContentStoreService.prefetch,
    async (requests: AsyncIterable<PrefetchRequest>, send: Send<PrefetchResponse>, context: CallContext) => {
      const incoming = requests[Symbol.asyncIterator]();
      const first = await incoming.next();
      const start = first.done === true ? undefined : first.value.step;
      if (start?.$case !== 'start') throw new GearError('invalid-argument', 'the first message has to say the image');
      const allowance = new Allowance();
      allowance.grant(start.value.grant);
      // Ends with the call.
      void listen(incoming, allowance);
      const { signal, draining } = context;
      draining.addEventListener('abort', () => allowance.end(), { once: true });
      const image = parseDigest(start.value.image);
      context.transfer.what = 'start-up profile';
      context.transfer.image = start.value.image;
      const profile = await profiles.get(image, { signal });
      const pieces = piecesOf(profile);
      const have = readHave(start.value);
      const wanted = pieces.filter((piece) => !has(have, piece, profile.chunkSize));
      await using pack = await profiles.openPack(image);
      if (pack === undefined || !isFresh(pieces, pack.frames)) profiles.wantPack(image);
      const steps = planSteps(wanted, pack?.frames ?? []);
      const ranges = steps.flatMap((step) => step.pieces.map(rangeOf));
      await send({ step: { $case: 'plan', value: { ranges } } });
      const made = (step: Step) =>
        step.packed === undefined || pack === undefined
          ? framesOf(parts.objects, step.pieces, { level: LEVEL.fast, signal })
          : [pack.read(step.packed)];
      for (const step of steps) {
        // Read ahead of the grant would be wasted where the client goes.
        if (!(await allowance.room(signal))) break;
        for await (const frame of made(step)) {
          allowance.spend(frame.data.length);
          context.transfer.sent(frame.data.length);
          await sendFrame(parts, frame, send);
        }
      }
    },
  );
}

async function listen(incoming: AsyncIterator<PrefetchRequest>, allowance: Allowance): Promise<void> {
  try {
    for (let next = await incoming.next(); next.done !== true; next = await incoming.next()) {
      if (next.value.step?.$case === 'grant') allowance.grant(next.value.step.value);
    }
  } catch {
    // The call has ended; whoever sends hears of it too.
  } finally {
    allowance.end();
  }
}

async function sendFrame(
  { prefetchedBytes, sentBytes }: PrefetchParts,
  { pieces, data, zstd, missing }: Frame,
  send: Send<PrefetchResponse>,
): Promise<void> {
  if (!missing) prefetchedBytes.add(pieces.reduce((sum, { length }) => sum + length, 0));
  sentBytes.add(data.length);
  await send({ step: { $case: 'frame', value: { ranges: pieces.length, data, zstd, missing } } });
}

function rangeOf({ digest, offset, length }: Piece) {
  return { digest: digestToBytes(digest), offset: BigInt(offset), length: BigInt(length) };
}

function readHave({ have, partial }: PrefetchStart) {
  if (have.length % 4 !== 0) throw new GearError('invalid-argument', 'four bytes for each object that is there');
  const chunks = new Map<Digest, Uint8Array>();
  for (const { digest, chunks: bits } of partial) chunks.set(digestFromBytes(digest), bits);
  return { objects: Buffer.from(have), partial: chunks };
}
