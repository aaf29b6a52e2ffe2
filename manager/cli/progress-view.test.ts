import { describe, expect, it } from 'vitest';
import type { ConvertProgress } from '../converter/request.ts';
import { convertLine } from './convert-progress.ts';
import { amountLine, formatBytes } from './progress-view.ts';

describe('progress', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [12_345, '12.3 kB'],
    [99_960, '100 kB'],
    [999_499, '999 kB'],
    [999_600, '1.0 MB'],
    [1_234_567_890, '1.2 GB'],
  ])('writes %i bytes as %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it('never shows more than there is', () => {
    expect(amountLine(50, 100, false)).toBe(' 50 %  50 B of 100 B');
    expect(amountLine(150, 100, true)).toBe(`[${'#'.repeat(24)}] 100 %  150 B of 100 B`);
    expect(amountLine(0, 0, false)).toContain('100 %');
    expect(amountLine(0, 10, true)).toContain(`[${'-'.repeat(24)}]   0 %`);
  });

  it('says what a conversion is doing', () => {
    const progress: ConvertProgress = {
      phase: 'layers',
      doneBytes: 500_000,
      totalBytes: 1_000_000,
      layer: 2,
      layers: 3,
      entries: 10,
      newObjects: 7,
      newBytes: 1,
    };
    expect(convertLine(progress, false)).toBe('converting   50 %  500 kB of 1.0 MB  layer 2 of 3  7 new objects');
    expect(convertLine({ ...progress, phase: 'fetch' }, false)).toBe('fetching   50 %  500 kB of 1.0 MB');
    expect(convertLine({ ...progress, phase: 'push' }, false)).toBe('writing the Gear image');
  });
});
