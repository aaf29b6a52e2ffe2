import { describe, expect, it } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { decodeRecord, encodeRecord, imageId } from './image-record.ts';
import type { ImageRecord } from './record.ts';

const digest = (text: string) => digestOf(Buffer.from(text));
const RECORD: ImageRecord = {
  source: 'docker://a',
  destination: 'docker://a-gear',
  sourceDigest: digest('source'),
  gearDigest: digest('gear'),
  platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
  indexDigest: digest('index'),
  indexSize: 2 ** 40,
  layers: [
    {
      blobDigest: digest('blob'),
      diffId: digest('diff'),
      indexDigest: digest('layer'),
      blobSize: 1,
      tarSize: 2,
      linkedBelow: true,
      warnings: ['something was left out'],
    },
  ],
  objects: 3,
  objectBytes: 4,
  fileBytes: 5,
  entries: 6,
  config: Buffer.from([0xff, 0, 1, 0x7b]),
  configMediaType: 'application/json',
  convertedAt: 1_750_000_000_123,
  warnings: ['a "quoted" one', 'ünicode'],
};

describe('the record of an image', () => {
  it('comes back as it was', () => {
    expect(decodeRecord(encodeRecord(RECORD), 'x')).toEqual(RECORD);
    const without = { ...RECORD, gearDigest: undefined, destination: '', layers: [] };
    expect(decodeRecord(encodeRecord(without), 'x')).toEqual(without);
  });

  it('has a name of its own for each image', () => {
    const changes: Partial<ImageRecord>[] = [
      {},
      { source: 'docker://b' },
      { destination: '' },
      { sourceDigest: digest('other') },
      { gearDigest: undefined },
      { indexDigest: digest('other') },
    ];
    const ids = changes.map((change) => imageId({ ...RECORD, ...change }));
    expect(new Set(ids).size).toBe(changes.length);
    expect(imageId({ ...RECORD, convertedAt: 1, warnings: [] })).toBe(ids[0]);
    expect(ids[0]).toMatch(/^[0-9a-f]{64}-[0-9a-f]{16}$/);
  });

  it.each([
    ['no JSON', '{'],
    ['a list', '[]'],
    ['null', 'null'],
    ['a missing field', JSON.stringify({ ...JSON.parse(encodeRecord(RECORD)), source: undefined })],
    ['a wrong digest', JSON.stringify({ ...JSON.parse(encodeRecord(RECORD)), sourceDigest: 'sha256:12' })],
    ['a negative size', JSON.stringify({ ...JSON.parse(encodeRecord(RECORD)), indexSize: -1 })],
    ['a layer that is none', JSON.stringify({ ...JSON.parse(encodeRecord(RECORD)), layers: [7] })],
  ])('refuses %s, naming the file', (_what, text) => {
    expect(() => decodeRecord(text, '/some/file.json')).toThrow(
      expect.objectContaining({ code: 'corrupt', message: expect.stringContaining('/some/file.json') }),
    );
  });

  it('refuses another version', () => {
    const text = JSON.stringify({ ...JSON.parse(encodeRecord(RECORD)), version: 2 });
    expect(() => decodeRecord(text, 'x')).toThrow(expect.objectContaining({ code: 'unsupported' }));
  });
});
