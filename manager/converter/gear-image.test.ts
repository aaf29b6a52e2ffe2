import { Readable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { digestOf, ociDigest } from '#core/digest.ts';
import { parseDescriptor } from '#core/index/descriptor.ts';
import { readTar } from '#core/tar/reader.ts';
import { parseManifest } from '../registry/manifest.ts';
import { buildGearImage, type GearImageParts } from './gear-image.ts';
import { parseConfig, startsWithGearLayer } from './image-config.ts';

const index = Buffer.from('an encoded index would stand here');
const source = digestOf(Buffer.from('source'));
const parts: GearImageParts = {
  config: Buffer.from(
    `{"config":{"Env":["A=b=c"]},"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["x","y"]},"history":[{},{}]}`,
  ),
  created: '2024-01-02T03:04:05Z',
  descriptor: {
    version: 1,
    index: { digest: digestOf(index), size: index.length },
    source: { digest: source },
    chunkSize: 131072,
    entries: 5,
    objects: 2,
    bytes: 1000,
  },
  index,
};

describe('buildGearImage', () => {
  it('makes a valid image with one layer, the config as it was and a history that says what it is', async () => {
    const gear = await buildGearImage(parts);
    const manifest = parseManifest(gear.manifest, 'gear');
    if (manifest.kind !== 'image') throw new Error('a list');
    expect(manifest.digest).toBe(gear.manifestDigest);
    expect(manifest.layers).toHaveLength(1);
    const bytes = gear.blobs.get(manifest.config.digest);
    if (!Buffer.isBuffer(bytes)) throw new Error('no config');
    const config = parseConfig(bytes, manifest, 'gear');
    expect(startsWithGearLayer(config)).toBe(true);
    expect(config.history).toEqual([
      { created: '2024-01-02T03:04:05Z', created_by: `gear convert ${ociDigest(source)}`, comment: 'gear.v1' },
    ]);
    expect(bytes.toString()).toContain('{"config":{"Env":["A=b=c"]},"os":"linux",');
  });

  it('holds .gear/ in its layer and nothing else', async () => {
    const gear = await buildGearImage(parts);
    const manifest = parseManifest(gear.manifest, 'gear');
    if (manifest.kind !== 'image') throw new Error('a list');
    const layer = gear.blobs.get(manifest.layers[0]!.digest);
    if (!Buffer.isBuffer(layer)) throw new Error('no layer');
    const tar = gunzipSync(layer);
    const found = new Map<string, Buffer>();
    for await (const entry of readTar(Readable.from([tar]))) {
      expect(entry).toMatchObject({ uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0 });
      found.set(entry.path, Buffer.concat(await Array.fromAsync(entry.content)));
    }
    expect([...found.keys()]).toEqual(['.gear/', '.gear/descriptor.json', '.gear/index']);
    expect(found.get('.gear/index')).toEqual(index);
    expect(parseDescriptor(found.get('.gear/descriptor.json')!)).toEqual(parts.descriptor);
  });

  it('is the same, byte by byte, for the same source', async () => {
    const first = await buildGearImage(parts);
    const second = await buildGearImage({ ...parts, index: Buffer.from(index) });
    expect(second.manifest).toEqual(first.manifest);
    expect([...second.blobs]).toEqual([...first.blobs]);
    // Held fast: another one would bring every Gear image to its registry, and every node, again.
    expect(first.configDigest).toBe('db876a09db0d602e247123fcda6cb9ee201f706b1fa583346995f13b86ca4f76');
  });
});
