import { type Digest, digestOf, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError, isGearError } from '#core/errors.ts';
import type { Connection } from '#core/grpc/client.ts';
import { MAX_PIECE_BYTES } from '#core/grpc/limits.ts';
import { DEFAULT_CHUNK_SIZE } from '#core/index/tree.ts';
import { ImagesService, type IndexPiece } from '#proto/gen/gear/v1/images.ts';
import { imageFromWire, imageToWire, layerFromWire } from './image-wire.ts';
import type { ConversionTarget, ImageRecord, LayerRecord, TargetObjects } from './target.ts';
import { Upload } from './upload.ts';

const CALL_TIMEOUT = 60_000;
/** An index is held in memory; a larger one than this is none. */
const MAX_INDEX_BYTES = 1024 * 1024 * 1024;

interface Signalled {
  readonly signal: AbortSignal;
}

async function orUndefined<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (isGearError(error, 'not-found')) return undefined;
    throw error;
  }
}

/** A manager elsewhere as the target of a conversion on this machine. */
export class RemoteTarget implements ConversionTarget {
  readonly chunkSize = DEFAULT_CHUNK_SIZE;
  readonly #connection: Connection;
  readonly #folder: string;

  /** `folder` is for what waits to be sent: up to 128 MiB and the largest object. */
  constructor(connection: Connection, folder: string) {
    this.#connection = connection;
    this.#folder = folder;
  }

  async findImage(sourceDigest: Digest, { signal }: Signalled): Promise<ImageRecord | undefined> {
    const record = await this.#resolve(ociDigest(sourceDigest), signal);
    return record?.sourceDigest === sourceDigest ? record : undefined;
  }

  async findSource(source: string, { signal }: Signalled): Promise<ImageRecord | undefined> {
    const record = await this.#resolve(source, signal);
    return record?.source === source ? record : undefined;
  }

  async findLayer(diffId: Digest, { signal }: Signalled): Promise<LayerRecord | undefined> {
    const request = { digest: ociDigest(diffId) };
    const limits = { signal, timeout: CALL_TIMEOUT };
    const layer = await orUndefined(this.#connection.unary(ImagesService.resolveLayer, request, limits));
    const record = layer === undefined ? undefined : layerFromWire(layer);
    return record?.diffId === diffId ? record : undefined;
  }

  async readIndex(digest: Digest, { signal }: Signalled): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const { data } of this.#connection.serverStream(
      ImagesService.getIndex,
      { digest: ociDigest(digest) },
      { signal },
    )) {
      bytes += data.length;
      if (bytes > MAX_INDEX_BYTES)
        throw new GearError('corrupt', `index ${ociDigest(digest)}: more than ${MAX_INDEX_BYTES} bytes came`);
      pieces.push(data);
    }
    const index = Buffer.concat(pieces);
    if (digestOf(index) !== digest) {
      throw new GearError(
        'corrupt',
        `index ${ociDigest(digest)}: ${this.#connection.address} sent bytes of ${ociDigest(digestOf(index))}`,
      );
    }
    return index;
  }

  async openObjects({ signal }: Signalled): Promise<TargetObjects> {
    return new Upload({ connection: this.#connection, folder: this.#folder, chunkSize: this.chunkSize, signal });
  }

  async putIndex(bytes: Buffer, { signal }: Signalled): Promise<Digest> {
    const answer = await this.#connection.clientStream(ImagesService.putIndex, pieces(bytes), { signal });
    const digest = parseDigest(answer.digest);
    if (digest !== digestOf(bytes)) {
      throw new GearError(
        'internal',
        `${this.#connection.address} stored an index as ${answer.digest} that is ${ociDigest(digestOf(bytes))}`,
      );
    }
    return digest;
  }

  async putImage(image: ImageRecord, { signal }: Signalled): Promise<ImageRecord> {
    return imageFromWire(
      await this.#connection.unary(ImagesService.put, imageToWire(image), { signal, timeout: CALL_TIMEOUT }),
    );
  }

  async #resolve(reference: string, signal: AbortSignal): Promise<ImageRecord | undefined> {
    const call = this.#connection.unary(
      ImagesService.resolve,
      { reference, platform: undefined },
      { signal, timeout: CALL_TIMEOUT },
    );
    const image = await orUndefined(call);
    return image === undefined ? undefined : imageFromWire(image);
  }
}

async function* pieces(bytes: Buffer): AsyncGenerator<IndexPiece, void, void> {
  for (let at = 0; at < bytes.length; at += MAX_PIECE_BYTES) yield { data: bytes.subarray(at, at + MAX_PIECE_BYTES) };
}
