import { gunzipSync } from 'node:zlib';
import { DESCRIPTOR_PATH, GEAR_FOLDER, INDEX_PATH } from '#core/index/descriptor.ts';
import { archive, directory, file } from '../images/tar-bytes.ts';
import { readAll } from './tar-read.ts';

/** What a Gear layer holds. */
export interface GearFiles {
  readonly descriptor: Buffer;
  readonly index: Buffer;
}

/** The two files of the Gear image "HOST/REPOSITORY:TAG", which has no other layers. */
export async function gearFilesIn(name: string): Promise<GearFiles> {
  const [, host = '', repository = '', tag = ''] = /^([^/]+)\/(.+):([^:]+)$/.exec(name) ?? [];
  const get = async (path: string): Promise<Buffer> => {
    const headers = { accept: 'application/vnd.oci.image.manifest.v1+json' };
    const answer = await fetch(`http://${host}/v2/${repository}/${path}`, { headers });
    if (!answer.ok) throw new Error(`${name}: ${path}: ${answer.status}`);
    return Buffer.from(await answer.arrayBuffer());
  };
  const manifest = JSON.parse((await get(`manifests/${tag}`)).toString()) as { layers: { digest: string }[] };
  const [layer] = manifest.layers;
  if (layer === undefined || manifest.layers.length > 1) throw new Error(`${name} is not a Gear image alone`);
  const entries = await readAll(gunzipSync(await get(`blobs/${layer.digest}`)));
  const bytesOf = (path: string): Buffer => {
    const entry = entries.find((one) => one.path === path);
    if (entry === undefined) throw new Error(`${name} has no ${path}`);
    return entry.body;
  };
  return { descriptor: bytesOf(DESCRIPTOR_PATH), index: bytesOf(INDEX_PATH) };
}

/** The tar of a layer that holds these files as a Gear layer does. */
export function gearLayer({ descriptor, index }: GearFiles): Buffer {
  return archive(directory(`${GEAR_FOLDER}/`), file(DESCRIPTOR_PATH, descriptor), file(INDEX_PATH, index));
}

/** A copy with one bit in the middle turned over. */
export function flipBit(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const middle = copy.length >> 1;
  copy.writeUInt8(copy.readUInt8(middle) ^ 1, middle);
  return copy;
}
