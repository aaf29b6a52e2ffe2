import { describe, expect, it } from 'vitest';
import { MS, parseMountOptions } from './mount-flags.ts';

describe('mount options', () => {
  it('become flags, changes of propagation and data', () => {
    expect(parseMountOptions(['rbind', 'ro', 'rslave', 'size=1m', 'nosuid', 'mode=755'])).toEqual({
      flags: MS.BIND | MS.REC | MS.RDONLY | MS.NOSUID,
      propagation: [MS.SLAVE | MS.REC],
      data: ['size=1m', 'mode=755'],
    });
  });

  it('are overruled by later ones', () => {
    expect(parseMountOptions(['ro', 'nodev', 'rw', 'dev']).flags).toBe(0);
    expect(parseMountOptions(['rw', 'ro']).flags).toBe(MS.RDONLY);
  });

  it('are only words of the table, not of objects', () => {
    expect(parseMountOptions(['constructor', 'toString', '', 'defaults'])).toEqual({
      flags: 0,
      propagation: [],
      data: ['constructor', 'toString'],
    });
  });
});
