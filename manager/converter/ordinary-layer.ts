import { createWriteStream } from 'node:fs';
import { PassThrough, Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type Digest, Hasher } from '#core/digest.ts';
import type { Connection } from '#core/grpc/client.ts';
import type { Tree } from '#core/index/tree.ts';
import type { TarHeader } from '#core/tar/entry.ts';
import { writeTar } from '#core/tar/writer.ts';
import { type ObjectStream, openObjectStream, type WantedObject } from './object-stream.ts';
import { entriesOf } from './tree-tar.ts';

const PIECE_SIZE = 256 * 1024;

export interface OrdinaryLayerOptions {
  readonly connection: Connection;
  /** The new file for the blob. */
  readonly path: string;
  readonly gzip: boolean;
  readonly signal: AbortSignal;
  /** Called with the bytes of files that have come. */
  readonly onBytes: (bytes: number) => void;
}

export interface OrdinaryLayer {
  readonly digest: Digest;
  readonly diffId: Digest;
  /** Bytes of the blob. */
  readonly size: number;
}

function* wantedObjects(tree: Tree): Generator<WantedObject, void, void> {
  for (const { file } of entriesOf(tree))
    if (file?.digest !== undefined) yield { digest: file.digest, size: file.size };
}

async function* withContents(
  tree: Tree,
  objects: ObjectStream,
  onBytes: (bytes: number) => void,
): AsyncGenerator<{ header: TarHeader; content?: AsyncIterable<Uint8Array> }, void, void> {
  for (const { header, file } of entriesOf(tree)) {
    if (file?.digest === undefined) yield { header };
    else {
      yield { header, content: objects.next({ digest: file.digest, size: file.size }) };
      onBytes(file.size);
    }
  }
}

function hashing(hasher: Hasher): Transform {
  return new Transform({
    transform(piece: Buffer, _encoding, done) {
      hasher.update(piece);
      done(null, piece);
    },
  });
}

/**
 * Writes the layer that makes an image's tree, as an ordinary tar, its contents fetched from a manager and verified. Throws not-found and corrupt, naming the object;
 * the file is then to be thrown away.
 */
export async function writeOrdinaryLayer(tree: Tree, options: OrdinaryLayerOptions): Promise<OrdinaryLayer> {
  const { connection, path, gzip, signal, onBytes } = options;
  await using objects = openObjectStream(connection, wantedObjects(tree), signal);
  const [plain, packed] = [new Hasher(), new Hasher()];
  await pipeline(
    Readable.from(writeTar(withContents(tree, objects, onBytes)), { objectMode: true, highWaterMark: 4 }),
    hashing(plain),
    gzip ? createGzip({ level: 6, chunkSize: PIECE_SIZE }) : new PassThrough(),
    hashing(packed),
    createWriteStream(path, { flags: 'wx', highWaterMark: 4 * PIECE_SIZE }),
    { signal },
  );
  return { diffId: plain.digest(), digest: packed.digest(), size: packed.size };
}
