import { describe, expect, it } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { encodeManifest, type ImageManifest, MEDIA, parseManifest } from './manifest.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const descriptor = (mediaType: string, more: object = {}) => ({ mediaType, digest: DIGEST, size: 10, ...more });
const image = (more: object = {}) => ({
  schemaVersion: 2,
  config: descriptor(MEDIA.ociConfig),
  layers: [descriptor(MEDIA.ociLayerGzip)],
  ...more,
});
const parse = (value: unknown) => parseManifest(Buffer.from(JSON.stringify(value)), 'docker://host/app:1');

describe('parseManifest', () => {
  it('reads an image, as OCI and as Docker have it', () => {
    const bytes = Buffer.from(JSON.stringify(image()));
    expect(parseManifest(bytes, 'x')).toMatchObject({ kind: 'image', digest: digestOf(bytes), layers: [{ size: 10 }] });
    const docker = image({ config: descriptor(MEDIA.dockerConfig), layers: [descriptor(MEDIA.dockerLayerGzip)] });
    expect(parse(docker)).toMatchObject({ kind: 'image' });
  });

  it('reads a multi-arch list', () => {
    const platform = { os: 'linux', architecture: 'arm', variant: 'v7' };
    const list = parse({
      schemaVersion: 2,
      manifests: [descriptor(MEDIA.ociManifest, { platform }), descriptor(MEDIA.ociManifest)],
    });
    expect(list).toMatchObject({ kind: 'list', manifests: [{ platform }, { platform: undefined }] });
  });

  it.each<[string, unknown, RegExp]>([
    ['schema 1', { schemaVersion: 1, fsLayers: [] }, /schema 1/],
    ['an artifact', image({ config: descriptor('application/vnd.cncf.helm.config.v1+json') }), /artifact.*helm/],
    ['an artifact with a type of its own', image({ artifactType: 'application/vnd.example' }), /artifact.*example/],
    [
      'a foreign layer',
      image({ layers: [descriptor('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip')] }),
      /layer 1 of 1.*foreign/,
    ],
    [
      'a non-distributable layer',
      image({ layers: [descriptor('application/vnd.oci.image.layer.nondistributable.v1.tar')] }),
      /foreign/,
    ],
    [
      'an encrypted layer',
      image({ layers: [descriptor('application/vnd.oci.image.layer.v1.tar+gzip+encrypted')] }),
      /encrypted/,
    ],
    ['another kind of layer', image({ layers: [descriptor('application/vnd.wasm.content.layer.v1+wasm')] }), /wasm/],
    [
      'sha512',
      image({ config: { ...descriptor(MEDIA.ociConfig), digest: `sha512:${'a'.repeat(128)}` } }),
      /only sha256/,
    ],
    ['no image at all', { schemaVersion: 2, blobs: [] }, /not an image/],
  ])('refuses %s by name', (_name, value, message) => {
    expect(() => parse(value)).toThrow(
      expect.objectContaining({ code: 'unsupported', message: expect.stringMatching(message) }),
    );
  });

  it.each<[string, unknown]>([
    ['null', null],
    ['a list', []],
    ['no version', { layers: [] }],
    ['a layer without digest', image({ layers: [{ mediaType: MEDIA.ociLayer, size: 1 }] })],
    ['a layer without size', image({ layers: [{ mediaType: MEDIA.ociLayer, digest: DIGEST }] })],
    ['a layer of negative size', image({ layers: [descriptor(MEDIA.ociLayer, { size: -1 })] })],
    ['a layer that is none', image({ layers: ['x'] })],
  ])('refuses %s as corrupt', (_name, value) => {
    expect(() => parse(value)).toThrow(expect.objectContaining({ code: 'corrupt' }));
  });

  it('refuses what is not JSON', () => {
    expect(() => parseManifest(Buffer.from('<html>'), 'x')).toThrow(expect.objectContaining({ code: 'corrupt' }));
  });

  it('reads what it writes', () => {
    const { config, layers } = parse(image()) as ImageManifest;
    expect(parseManifest(encodeManifest({ config, layers }), 'x')).toMatchObject({ config, layers });
  });
});
