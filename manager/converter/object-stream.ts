import { type Digest, digestToBytes, Hasher, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Connection } from '#core/grpc/client.ts';
import { codeOfStatus } from '#core/grpc/status.ts';
import { ContentStoreService, type Range } from '#proto/gen/gear/v1/objects.ts';

/** Objects asked for in one message. */
const RANGES_PER_REQUEST = 256;

export interface WantedObject {
  readonly digest: Digest;
  readonly size: number;
}

/** Objects that arrive one after the other, in the order in which they were asked for. */
export interface ObjectStream extends AsyncDisposable {
  /** The bytes of the next object, which must be this one; to be read to the end, where they are verified. Throws corrupt, and not-found. */
  next(object: WantedObject): AsyncIterable<Buffer>;
}

/**
 * Fetches objects from a manager over one stream. They are asked for as fast as the manager takes the requests; no more of them is in memory than the stream's
 * window holds.
 */
export function openObjectStream(
  connection: Connection,
  wanted: Iterable<WantedObject>,
  signal: AbortSignal,
): ObjectStream {
  const exchange = connection.exchange(ContentStoreService.readMany, { signal });
  const answers = exchange.answers[Symbol.asyncIterator]();
  const asking = ask();
  asking.catch(() => {});

  async function ask(): Promise<void> {
    let ranges: Range[] = [];
    for (const { digest } of wanted) {
      ranges.push({ digest: digestToBytes(digest), offset: 0n, length: 0n });
      if (ranges.length < RANGES_PER_REQUEST) continue;
      await exchange.send({ ranges });
      ranges = [];
    }
    if (ranges.length > 0) await exchange.send({ ranges });
    exchange.end();
  }

  async function* next({ digest, size }: WantedObject): AsyncGenerator<Buffer, void, void> {
    const hasher = new Hasher();
    for (;;) {
      const { value: answer, done } = await answers.next();
      if (done === true)
        throw new GearError('unavailable', `${connection.address} ended the stream before object ${ociDigest(digest)}`);
      if (answer.code !== 0) {
        const code = codeOfStatus(answer.code);
        throw new GearError(code, `object ${ociDigest(digest)}: ${answer.message} (manager ${connection.address})`);
      }
      hasher.update(answer.data);
      if (hasher.size > size) break;
      if (answer.data.length > 0) yield answer.data;
      if (answer.last) break;
    }
    const found = hasher.size === size ? hasher.digest() : undefined;
    if (found === digest) return;
    const what = found === undefined ? `${hasher.size} bytes instead of ${size}` : `bytes of ${ociDigest(found)}`;
    throw new GearError('corrupt', `object ${ociDigest(digest)}: ${connection.address} sent ${what}`);
  }

  return {
    next,
    [Symbol.asyncDispose]: async () => {
      exchange[Symbol.dispose]();
      await answers.return?.(undefined).catch(() => {});
      await asking.catch(() => {});
    },
  };
}
