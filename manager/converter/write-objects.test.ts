import { describe, expect, it } from 'vitest';
import { ContentStoreService, type WriteRequest } from '#proto/gen/gear/v1/objects.ts';
import { WRITE_OBJECTS } from './write-objects.ts';

describe('WRITE_OBJECTS', () => {
  it.each([0, 1, 127, 128, 300, 16_383, 16_384, 1_048_576, 2_097_152])(
    'encodes %i bytes of data as the generated code does',
    (size) => {
      const request: WriteRequest = { part: { $case: 'data', value: Buffer.alloc(size, 7) } };
      expect(WRITE_OBJECTS.requestSerialize(request).equals(ContentStoreService.write.requestSerialize(request))).toBe(
        true,
      );
    },
  );

  it('encodes a header as the generated code does', () => {
    const request: WriteRequest = { part: { $case: 'header', value: { digest: Buffer.alloc(32, 1), size: 300n } } };
    expect(WRITE_OBJECTS.requestSerialize(request)).toEqual(ContentStoreService.write.requestSerialize(request));
  });
});
