import { describe, expect, it } from 'vitest';
import { checkLabels, layerRequest, updatedLabels } from './labels.ts';

const A = 'a'.repeat(64);
const B = 'b'.repeat(64);
const M = 'c'.repeat(64);

describe('what a client says about a layer', () => {
  it('is read from the labels of CRI, Docker and nerdctl', () => {
    const request = layerRequest({
      'containerd.io/snapshot.ref': 'sha256:chain',
      'containerd.io/snapshot/cri.layer-digest': `sha256:${A}`,
      'containerd.io/snapshot/cri.image-ref': 'registry.example/app:1',
      'containerd.io/snapshot/cri.image-layers': `sha256:${A},sha256:${B}`,
      'containerd.io/snapshot/cri.manifest-digest': `sha256:${M}`,
    });
    expect(request).toEqual({
      target: 'sha256:chain',
      layer: A,
      image: 'registry.example/app:1',
      manifest: M,
      layers: [A, B],
    });
  });

  it("is read from the labels of stargz's client", () => {
    const request = layerRequest({
      'containerd.io/snapshot.ref': 'sha256:chain',
      'containerd.io/snapshot/remote/stargz.digest': `sha256:${B}`,
      'containerd.io/snapshot/remote/stargz.reference': 'registry.example/app:1',
      'containerd.io/snapshot/remote/stargz.layers': `sha256:${B}`,
    });
    expect(request).toMatchObject({ layer: B, image: 'registry.example/app:1', layers: [B], manifest: undefined });
  });

  it('is nothing where nothing is unpacked, and less where labels make no sense', () => {
    expect(layerRequest({ 'containerd.io/snapshot/cri.layer-digest': `sha256:${A}` })).toBeUndefined();
    expect(layerRequest({ 'containerd.io/snapshot.ref': 'x' })).toEqual({
      ...{ target: 'x', layer: undefined, image: '', manifest: undefined, layers: [] },
    });
    const cut = {
      'containerd.io/snapshot.ref': 'x',
      'containerd.io/snapshot/cri.image-layers': `sha256:${A},sha256:bb`,
    };
    expect(layerRequest(cut)?.layers).toEqual([A]);
    expect(
      layerRequest({ 'containerd.io/snapshot.ref': 'x', 'containerd.io/snapshot/cri.layer-digest': 'sha512:00' })
        ?.layer,
    ).toBeUndefined();
  });
});

describe('labels', () => {
  const old = { l1: 'a', l2: 'b' };

  it.each([
    [[], { l3: 'c' }],
    [['labels'], { l3: 'c' }],
    [['labels.l3'], { l1: 'a', l2: 'b', l3: 'c' }],
    [['labels.l1', 'labels.l3'], { l2: 'b', l3: 'c' }],
    [['labels.a.b/c'], { l1: 'a', l2: 'b' }],
  ] as const)('are updated by %j', (paths, expected) => {
    expect(updatedLabels(old, { l3: 'c' }, paths)).toEqual(expected);
  });

  it('are all that can be updated', () => {
    expect(() => updatedLabels(old, {}, ['parent'])).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });

  it('have the size that containerd allows', () => {
    expect(() => checkLabels({ k: 'v'.repeat(4095) })).not.toThrow();
    expect(() => checkLabels({ k: 'v'.repeat(4096) })).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});
