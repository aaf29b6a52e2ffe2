import { expect, test } from 'vitest';
import { layerIn, parseLayerRecord } from './layer.ts';

const sound = { version: 1, id: 'a', parent: '', readWrite: false };

test('a record comes back as it was written', () => {
  expect(parseLayerRecord(JSON.stringify(sound), 'a')).toEqual(sound);
  const gear = { ...sound, image: 'ab'.repeat(32) };
  expect(parseLayerRecord(JSON.stringify(gear), 'a')).toEqual(gear);
});

test.each([
  ['', 'not JSON'],
  ['null', 'does not describe'],
  [JSON.stringify({ ...sound, id: 'b' }), 'does not describe'],
  [JSON.stringify({ ...sound, version: 2 }), 'does not describe'],
  [JSON.stringify({ ...sound, image: '../../etc' }), 'does not describe'],
  [JSON.stringify({ ...sound, parent: 7 }), 'does not describe'],
])('%s is refused, naming the layer', (text, message) => {
  expect(() => parseLayerRecord(text, 'a')).toThrow(`layer a: layer.json`);
  expect(() => parseLayerRecord(text, 'a')).toThrow(message);
});

test('the folders of a layer lie in its own', () => {
  expect(layerIn('/home', parseLayerRecord(JSON.stringify(sound), 'a'))).toMatchObject({
    folder: '/home/a',
    diff: '/home/a/diff',
    work: '/home/a/work',
    merged: '/home/a/merged',
  });
});
