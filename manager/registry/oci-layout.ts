import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { MEDIA } from './manifest.ts';
import type { OciReference } from './reference.ts';

/** The bytes of a blob, or the absolute path of a file that holds them. */
export type BlobContent = Uint8Array | { readonly file: string };

/** The name of the image in a layout that Gear writes. */
const TAG = 'image';

/**
 * Writes an OCI layout with one image into the new folder `path`, for skopeo to copy elsewhere; it lasts as long as the copy, so nothing is flushed. Gives
 * its reference. Throws invalid-argument for a path with ":", as skopeo could not be told of it.
 */
export async function writeLayout(
  path: string,
  manifest: Uint8Array,
  blobs: ReadonlyMap<Digest, BlobContent>,
): Promise<OciReference> {
  if (path.includes(':') || !isAbsolute(path)) {
    throw new GearError('invalid-argument', `${path}: the scratch folder must be an absolute path without ":"`);
  }
  const folder = join(path, 'blobs', 'sha256');
  await mkdir(folder, { recursive: true });
  const digest = digestOf(manifest);
  for (const [name, content] of [...blobs, [digest, manifest] as const]) {
    if ('file' in content) await symlink(content.file, join(folder, name));
    else await writeFile(join(folder, name), content);
  }
  await writeFile(join(path, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  const entry = {
    mediaType: MEDIA.ociManifest,
    digest: ociDigest(digest),
    size: manifest.length,
    annotations: { 'org.opencontainers.image.ref.name': TAG },
  };
  await writeFile(join(path, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  return { transport: 'oci', path, tag: TAG };
}
