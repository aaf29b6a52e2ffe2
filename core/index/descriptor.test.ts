import { describe, expect, it } from 'vitest';
import { digestOf } from '../digest.ts';
import { type Descriptor, encodeDescriptor, parseDescriptor } from './descriptor.ts';

const descriptor: Descriptor = {
  version: 1,
  index: { digest: digestOf(Buffer.from('index')), size: 1234 },
  source: { digest: digestOf(Buffer.from('source')) },
  chunkSize: 131072,
  entries: 12,
  objects: 3,
  bytes: 456789,
};
const json = () => JSON.parse(encodeDescriptor(descriptor).toString()) as Record<string, unknown>;
const parse = (value: unknown) => parseDescriptor(Buffer.from(JSON.stringify(value)));

describe('descriptor', () => {
  it('is written byte by byte as documented', () => {
    expect(encodeDescriptor(descriptor).toString()).toBe(
      '{"version":1,"index":{"digest":"sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6","size":1234},' +
        '"source":{"digest":"sha256:41cf6794ba4200b839c53531555f0f3998df4cbb01a4d5cb0b94e3ca5e23947d"},' +
        '"chunkSize":131072,"entries":12,"objects":3,"bytes":456789}\n',
    );
  });

  it('comes back as it was', () => {
    expect(parseDescriptor(encodeDescriptor(descriptor))).toEqual(descriptor);
  });

  it('refuses another version by name', () => {
    expect(() => parse({ ...json(), version: 2 })).toThrow(expect.objectContaining({ code: 'unsupported' }));
  });

  it.each([
    ['no JSON', 'x'],
    ['null', null],
    ['a list', []],
    ['no version', { ...json(), version: undefined }],
    ['an unknown field', { ...json(), more: 1 }],
    [
      'an unknown field of the index',
      { ...json(), index: { digest: `sha256:${descriptor.index.digest}`, size: 1, x: 1 } },
    ],
    ['a digest without its algorithm', { ...json(), index: { digest: descriptor.index.digest, size: 1 } }],
    ['a digest in capitals', { ...json(), source: { digest: `sha256:${'A'.repeat(64)}` } }],
    ['a negative size', { ...json(), bytes: -1 }],
    ['a broken size', { ...json(), bytes: 1.5 }],
    ['a size as text', { ...json(), entries: '12' }],
    ['a size beyond what a number holds', { ...json(), objects: 2 ** 53 }],
    ['a chunk size that is no power of two', { ...json(), chunkSize: 131073 }],
    ['a chunk size of nothing', { ...json(), chunkSize: 0 }],
    ['too many bytes', { ...json(), more: 'x'.repeat(5000) }],
  ])('refuses %s as corrupt', (_name, value) => {
    expect(() => parse(value)).toThrow(expect.objectContaining({ code: 'corrupt' }));
  });
});
