import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip, createZstdCompress } from 'node:zlib';

export type Compression = 'gzip' | 'zstd' | 'none';

/** A layer: an uncompressed tar, in memory or in a file. */
export interface ImageLayer {
  readonly tar: Buffer | { readonly path: string };
  readonly compression?: Compression;
  /** Of gzip, 1 to 9. Default 6. */
  readonly level?: number;
}

export interface ImageDescription {
  readonly layers: readonly ImageLayer[];
  /** The `config` object of the image's configuration (Env, Cmd, Labels, ...). */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Further top-level fields of the configuration (author, created, ...). */
  readonly top?: Readonly<Record<string, unknown>>;
}

/** What was written, digests as OCI writes them. */
export interface WrittenImage {
  /** In skopeo's words: "oci:FOLDER:TAG". */
  readonly reference: string;
  readonly folder: string;
  readonly manifestDigest: string;
  readonly configDigest: string;
  readonly layers: readonly { readonly digest: string; readonly diffId: string; readonly size: number }[];
}

const MEDIA_TYPE: Readonly<Record<Compression, string>> = {
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  none: 'application/vnd.oci.image.layer.v1.tar',
};

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

function compressor(compression: Compression, level: number): Transform[] {
  if (compression === 'gzip') return [createGzip({ level })];
  if (compression === 'zstd') return [createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } })];
  return [];
}

function meter(): { stream: Transform; digest: () => string } {
  const hash = createHash('sha256');
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
  });
  return { stream, digest: () => `sha256:${hash.digest('hex')}` };
}

/** Writes an image as an OCI layout into `folder` (made, and must not hold another image). */
export async function writeOciLayout(folder: string, image: ImageDescription, tag = 'latest'): Promise<WrittenImage> {
  const blobs = join(folder, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const writeBlob = async (bytes: string): Promise<{ digest: string; size: number }> => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(blobs, hex), bytes);
    return { digest: `sha256:${hex}`, size: Buffer.byteLength(bytes) };
  };
  const layers: { digest: string; diffId: string; size: number; mediaType: string }[] = [];
  for (const { tar, compression = 'gzip', level = 6 } of image.layers) {
    const source = Buffer.isBuffer(tar) ? Readable.from([tar]) : createReadStream(tar.path);
    const temporary = join(blobs, `.layer-${layers.length}`);
    const [plain, packed] = [meter(), meter()];
    await pipeline([
      source,
      plain.stream,
      ...compressor(compression, level),
      packed.stream,
      createWriteStream(temporary),
    ]);
    const digest = packed.digest();
    const { size } = await stat(temporary);
    await rename(temporary, join(blobs, digest.slice(7)));
    layers.push({ digest, diffId: plain.digest(), size, mediaType: MEDIA_TYPE[compression] });
  }
  const created = '2024-05-06T07:08:09.123456789Z';
  const config = await writeBlob(
    JSON.stringify({
      created,
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      ...image.top,
      config: image.config ?? {},
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      history: layers.map((_, at) => ({ created, created_by: `layer ${at + 1}` })),
    }),
  );
  const manifest = await writeBlob(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST,
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
      layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
    }),
  );
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const named = { mediaType: MANIFEST, ...manifest, annotations: { 'org.opencontainers.image.ref.name': tag } };
  await writeFile(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
  return {
    reference: `oci:${folder}:${tag}`,
    folder,
    manifestDigest: manifest.digest,
    configDigest: config.digest,
    layers,
  };
}

/** Writes the layout whole or not at all: into a folder beside it, then renamed. Gives nothing; read the folder. */
export async function writeOciLayoutAtomically(folder: string, image: ImageDescription): Promise<void> {
  const temporary = `${folder}.tmp-${process.pid}`;
  await rm(temporary, { recursive: true, force: true });
  try {
    await writeOciLayout(temporary, image);
    await rename(temporary, folder);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
