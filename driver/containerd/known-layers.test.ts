import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createLogger } from '#core/log.ts';
import { Conversions, sourceOf } from './conversions.ts';
import { layerWithChain } from './known-layers.ts';

const sha256 = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;
const layer = (diffId: string) => ({
  ...{ blobDigest: sha256(`blob ${diffId}`), diffId, indexDigest: sha256(`index ${diffId}`) },
  ...{ blobSize: 1n, tarSize: 1n, linkedBelow: true },
});

describe('a layer in its image', () => {
  const layers = ['a', 'b', 'c'].map((name) => layer(sha256(name)));
  const [a, b, c] = layers.map(({ diffId }) => diffId) as [string, string, string];

  it('is found by the chain of layers up to it', () => {
    expect(layerWithChain({ layers }, a)).toBe(layers[0]);
    expect(layerWithChain({ layers }, sha256(`${a} ${b}`))).toBe(layers[1]);
    expect(layerWithChain({ layers }, sha256(`${sha256(`${a} ${b}`)} ${c}`))).toBe(layers[2]);
  });

  it('is not found over other layers', () => {
    expect(layerWithChain({ layers }, b)).toBeUndefined();
    expect(layerWithChain({ layers }, sha256(`${b} ${a}`))).toBeUndefined();
  });
});

describe('conversions in the background', () => {
  it('name an image as skopeo does', () => {
    expect(sourceOf('docker.io/library/nginx:latest')).toBe('docker://docker.io/library/nginx:latest');
    expect(sourceOf('127.0.0.1:5000/a@sha256:00')).toBe('docker://127.0.0.1:5000/a@sha256:00');
    expect(sourceOf('127.0.0.1:5000/a:tag@sha256:00')).toBe('docker://127.0.0.1:5000/a@sha256:00');
  });

  it('are asked for once, one after the other, and keep why they failed', async () => {
    const asked: string[] = [];
    let running = 0;
    const manager = {
      address: 'here',
      convert: async (source: string): Promise<never> => {
        expect(running++).toBe(0);
        asked.push(source);
        await new Promise((resolve) => setTimeout(resolve, 5));
        running--;
        throw new Error('no such image');
      },
    };
    const conversions = new Conversions(manager, createLogger('test', 'silent'));
    for (const image of ['a:1', 'b:1', 'a:1', 'b:1']) conversions.ask(image);
    await conversions.settled();
    expect(asked).toEqual(['docker://a:1', 'docker://b:1']);
    conversions.ask('a:1');
    await conversions[Symbol.asyncDispose]();
    expect(conversions.list()).toEqual([
      { image: 'a:1', state: 'failed', reason: 'no such image' },
      { image: 'b:1', state: 'failed', reason: 'no such image' },
    ]);
  });
});
