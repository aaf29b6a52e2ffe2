import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { archive, file } from '../images/tar-bytes.ts';

const CONFIG_TYPE = 'application/vnd.oci.image.config.v1+json';
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

async function ask(url: string, init: RequestInit, wanted: number): Promise<Response> {
  const response = await fetch(url, init);
  await response.arrayBuffer();
  if (response.status !== wanted) throw new Error(`${init.method} ${url}: ${response.status}, not ${wanted}`);
  return response;
}

async function putBlob(host: string, repository: string, bytes: Buffer): Promise<void> {
  const begun = await ask(`http://${host}/v2/${repository}/blobs/uploads/`, { method: 'POST' }, 202);
  const url = new URL(begun.headers.get('location') ?? '', `http://${host}`);
  url.searchParams.set('digest', digestOf(bytes));
  const headers = { 'content-type': 'application/octet-stream' };
  await ask(url.href, { method: 'PUT', headers, body: new Uint8Array(bytes) }, 201);
}

/** Pushes an image of one tiny file (or, with `artifact`, something that is no image) by plain HTTP requests. Gives the manifest's digest. */
export async function pushTiny(
  host: string,
  repository: string,
  tag: string,
  content: string,
  artifact = false,
): Promise<string> {
  const tar = archive(file('tiny', content));
  const layer = gzipSync(tar);
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: [digestOf(tar)] },
    }),
  );
  await putBlob(host, repository, layer);
  await putBlob(host, repository, config);
  const configType = artifact ? 'application/vnd.example.chart.config.v1+json' : CONFIG_TYPE;
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      config: { mediaType: configType, digest: digestOf(config), size: config.length },
      layers: [
        { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: digestOf(layer), size: layer.length },
      ],
    }),
  );
  const headers = { 'content-type': MANIFEST_TYPE };
  const body = new Uint8Array(manifest);
  await ask(`http://${host}/v2/${repository}/manifests/${tag}`, { method: 'PUT', headers, body }, 201);
  return digestOf(manifest);
}

/** Tags a multi-arch list of manifests that the repository has. Gives its digest. */
export async function pushList(
  host: string,
  repository: string,
  tag: string,
  entries: readonly { readonly digest: string; readonly architecture: string }[],
): Promise<string> {
  const manifests = [];
  for (const { digest, architecture } of entries) {
    const answer = await fetch(`http://${host}/v2/${repository}/manifests/${digest}`, {
      headers: { accept: MANIFEST_TYPE },
    });
    const { length: size } = Buffer.from(await answer.arrayBuffer());
    manifests.push({ mediaType: MANIFEST_TYPE, digest, size, platform: { os: 'linux', architecture } });
  }
  const type = 'application/vnd.oci.image.index.v1+json';
  const list = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, manifests }));
  const headers = { 'content-type': type };
  const body = new Uint8Array(list);
  await ask(`http://${host}/v2/${repository}/manifests/${tag}`, { method: 'PUT', headers, body }, 201);
  return digestOf(list);
}

/** Deletes a manifest, and with it its tags. */
export async function deleteManifest(host: string, repository: string, digest: string): Promise<void> {
  await ask(`http://${host}/v2/${repository}/manifests/${digest}`, { method: 'DELETE' }, 202);
}
