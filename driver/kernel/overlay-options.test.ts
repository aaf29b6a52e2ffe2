import { describe, expect, it } from 'vitest';
import { overlayOptionString, overlayOptions } from './overlay-options.ts';

const text = (overlay: Parameters<typeof overlayOptions>[0]) =>
  overlayOptions(overlay).map((o) => `${o.key}=${o.value}`);

describe('overlay options', () => {
  it('say everything that a kernel could decide otherwise', () => {
    expect(text({ lower: ['/l1', '/l2'], upper: '/u', work: '/w' })).toEqual([
      'index=off',
      'metacopy=off',
      'redirect_dir=nofollow',
      'lowerdir+=/l1',
      'lowerdir+=/l2',
      'upperdir=/u',
      'workdir=/w',
    ]);
  });

  it('turn metacopy and redirects on for data directories', () => {
    expect(text({ lower: ['/l'], data: ['/d1', '/d2'], xino: 'auto', label: 'a:b,c' })).toEqual([
      'index=off',
      'metacopy=on',
      'redirect_dir=on',
      'xino=auto',
      'context=a:b,c',
      'lowerdir+=/l',
      'datadir+=/d1',
      'datadir+=/d2',
    ]);
  });

  it('become one string with escapes, and a label in quotes', () => {
    const options = overlayOptions({
      lower: ['/a:b', '/c,d'],
      data: ['/e\\f'],
      upper: '/u,',
      work: '/w',
      label: 'x:y,z',
    });
    expect(overlayOptionString(options)).toBe(
      'lowerdir=/a\\:b:/c\\,d::/e\\\\f,index=off,metacopy=on,redirect_dir=on,context="x:y,z",upperdir=/u\\,,workdir=/w',
    );
  });

  it.each([
    [{ lower: [] }, 'at least one lower'],
    [{ lower: ['/l'] }, 'without an upper'],
    [{ lower: ['/l'], upper: '/u' }, 'needs a work directory'],
    [{ lower: ['/l'], upper: '/u', work: 'w' }, '"w" is not an absolute path'],
    [{ lower: ['/l\0'], upper: '/u', work: '/w' }, 'NUL'],
    [{ lower: ['/l'], data: ['/d'], metacopy: false }, 'data directories need metacopy'],
    [{ lower: ['/l', '/m'], metacopy: true, redirectDirectories: false }, 'metacopy needs redirects'],
    [{ lower: Array.from({ length: 501 }, (_, i) => `/${i}`) }, '501 layers'],
  ])('refuse %j', (overlay, message) => {
    expect(() => overlayOptions(overlay)).toThrow(message);
  });
});
