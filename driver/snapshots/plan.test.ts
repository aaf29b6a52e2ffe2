import { describe, expect, test } from 'vitest';
import type { Digest } from '#core/digest.ts';
import { layerIn } from './layer.ts';
import { type ChainLink, planMount } from './plan.ts';

const IMAGE = 'ab'.repeat(32) as Digest;
const VIEW = { lower: '/images/i/mnt', data: ['/private/i', '/remote/i'] };

function ordinary(id: string, parent = ''): ChainLink {
  return { layer: layerIn('/h', { version: 1, id, parent, readWrite: false }), view: undefined };
}
function gear(id: string, parent = ''): ChainLink {
  return { layer: layerIn('/h', { version: 1, id, parent, readWrite: false, image: IMAGE }), view: VIEW };
}

describe('an ordinary chain', () => {
  test('a layer without a parent is its own folder, for whoever writes and whoever reads', () => {
    expect(planMount([ordinary('a')], { writable: true })).toEqual({ kind: 'folder', path: '/h/a/diff' });
    expect(planMount([ordinary('a')], { writable: false })).toEqual({ kind: 'folder', path: '/h/a/diff' });
  });

  test('a layer on others is written to over them, top first, without data layers', () => {
    expect(planMount([ordinary('c', 'b'), ordinary('b', 'a'), ordinary('a')], { writable: true })).toEqual({
      kind: 'overlay',
      lower: ['/h/b/diff', '/h/a/diff'],
      data: [],
      upper: { upper: '/h/c/diff', work: '/h/c/work' },
    });
  });

  test('its view is read-only and has the layer on top', () => {
    expect(planMount([ordinary('b', 'a'), ordinary('a')], { writable: false })).toEqual({
      kind: 'overlay',
      lower: ['/h/b/diff', '/h/a/diff'],
      data: [],
    });
  });
});

describe('a chain with a Gear layer', () => {
  test('the Gear layer itself shows its own files over its image', () => {
    expect(planMount([gear('g')], { writable: true })).toEqual({
      kind: 'overlay',
      lower: ['/images/i/mnt'],
      data: ['/private/i', '/remote/i'],
      upper: { upper: '/h/g/diff', work: '/h/g/work' },
    });
  });

  test('whoever stands on it sees the image and nothing of .gear', () => {
    const plan = planMount([ordinary('c', 'g'), gear('g')], { writable: true });
    expect(plan).toMatchObject({ lower: ['/images/i/mnt'], data: ['/private/i', '/remote/i'] });
    expect(planMount([gear('g')], { writable: false })).toEqual({
      kind: 'overlay',
      lower: ['/images/i/mnt'],
      data: ['/private/i', '/remote/i'],
    });
  });

  test('two Gear layers of one image name its data layers once', () => {
    const plan = planMount([gear('h', 'g'), gear('g')], { writable: false });
    expect(plan).toMatchObject({ lower: ['/images/i/mnt', '/images/i/mnt'], data: ['/private/i', '/remote/i'] });
  });
});
