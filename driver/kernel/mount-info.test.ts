import { describe, expect, it } from 'vitest';
import { findMount, isOverlayLayer, mountOf, mountsBelow, parseMountInfo } from './mount-info.ts';

const LINES = Buffer.from(
  [
    '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw,discard',
    '30 22 0:30 / /a rw,nosuid,nodev shared:2 master:7 - tmpfs tmp\\040fs rw,size=1024k',
    '31 30 0:31 /sub\\134dir /a/b\\040c\\012d ro - overlay overlay rw,lowerdir+=/x,upperdir=/y\\\\134z,x=a\\134,b',
    '32 30 0:32 / /a/b rw - tmpfs none rw',
    '33 32 0:33 / /a/b rw - proc proc rw',
    '34 22 0:34 / /ab rw - tmpfs \\303\\251 rw',
    '',
  ].join('\n'),
);

describe('mountinfo', () => {
  const mounts = parseMountInfo(LINES);

  it('is taken apart', () => {
    expect(mounts).toHaveLength(6);
    expect(mounts[1]).toEqual({
      id: 30,
      parentId: 22,
      device: '0:30',
      root: '/',
      target: '/a',
      options: ['rw', 'nosuid', 'nodev'],
      propagation: ['shared:2', 'master:7'],
      type: 'tmpfs',
      source: 'tmp fs',
      superOptions: ['rw', 'size=1024k'],
    });
  });

  it('undoes octal escapes, and does not split at an escaped comma', () => {
    expect(mounts[2]).toMatchObject({ root: '/sub\\dir', target: '/a/b c\nd' });
    expect(mounts[2]?.superOptions.at(-1)).toBe('x=a\\,b');
    expect(mounts[5]?.source).toBe('\xc3\xa9');
  });

  it('finds the topmost mount of a place', () => {
    expect(findMount('/a/b', mounts)?.type).toBe('proc');
    expect(findMount('/a/b/', mounts)?.type).toBe('proc');
    expect(findMount('/a/x', mounts)).toBeUndefined();
    expect(findMount('/', mounts)?.id).toBe(22);
  });

  it('knows the layers of overlays, as older and as newer kernels list them', () => {
    const overlays = parseMountInfo(
      Buffer.from(
        [
          '40 22 0:40 / /m rw - overlay overlay rw,lowerdir=/a:/b::/c\\040d::/e,upperdir=/u,workdir=/w',
          '41 22 0:41 / /n rw - overlay overlay rw,lowerdir+=/f,datadir+=/g,upperdir=/v,workdir=/x',
        ].join('\n'),
      ),
    );
    for (const layer of ['/a', '/b', '/c d', '/e', '/f', '/g']) expect(isOverlayLayer(layer, overlays)).toBe(true);
    for (const other of ['/u', '/w', '/c', '/', '/m', '/e/x']) expect(isOverlayLayer(other, overlays)).toBe(false);
  });

  it('finds what is below a place, and not what merely starts like it', () => {
    expect(mountsBelow('/a', mounts).map(({ id }) => id)).toEqual([30, 31, 32, 33]);
    expect(mountsBelow('/', mounts)).toHaveLength(6);
  });

  it('finds what a path lies on', () => {
    expect(mountOf('/a/b/c/d', mounts)?.id).toBe(33);
    expect(mountOf('/a/bc', mounts)?.id).toBe(30);
    expect(mountOf('/abc', mounts)?.id).toBe(22);
  });

  it('is empty for an empty file', () => {
    expect(parseMountInfo(Buffer.alloc(0))).toEqual([]);
  });
});
