import { describe, expect, it } from 'vitest';
import { clientMounts } from './mounts.ts';

const upper = { upper: '/r/containers/9/diff', work: '/r/containers/9/work' };

describe('what the client mounts', () => {
  it('is a bind mount where there is one folder', () => {
    const plan = { kind: 'folder', path: '/r/containers/1/diff' } as const;
    expect(clientMounts(plan, { lazy: false, readOnly: true })).toEqual([
      { type: 'bind', source: '/r/containers/1/diff', target: '', options: ['ro', 'rbind'] },
    ]);
    expect(clientMounts(plan, { lazy: false, readOnly: false })[0]?.options).toEqual(['rw', 'rbind']);
  });

  it('is an overlay without metadata-only copies where every layer is ordinary', () => {
    const [mount] = clientMounts(
      { kind: 'overlay', lower: ['/r/l/2', '/r/l/1'], data: [], upper },
      { lazy: false, readOnly: false },
    );
    expect(mount?.type).toBe('overlay');
    expect(mount?.options).toEqual([
      'lowerdir=/r/l/2:/r/l/1',
      ...['index=off', 'metacopy=off', 'redirect_dir=on'],
      ...[`upperdir=${upper.upper}`, `workdir=${upper.work}`],
    ]);
  });

  it('has data-only layers at the end where layers are lazy', () => {
    const plan = { kind: 'overlay', lower: ['/r/l/2', '/r/l/1'], data: ['/r/private/u', '/r/remote/u'] } as const;
    const options = clientMounts(plan, { lazy: true, readOnly: true })[0]?.options;
    expect(options).toContain('lowerdir=/r/l/2:/r/l/1::/r/private/u::/r/remote/u');
    expect(options).toContain('metacopy=on');
    expect(options?.some((option) => option.startsWith('upperdir'))).toBe(false);
  });

  it('follows metadata-only files also where contents are left out, so that nobody reads zeros', () => {
    const options = clientMounts(
      { kind: 'overlay', lower: ['/r/l/1'], data: [], upper },
      { lazy: true, readOnly: false },
    )[0]?.options;
    expect(options).toContain('lowerdir=/r/l/1');
    expect(options).toContain('metacopy=on');
  });

  it('fits into a page for 128 layers, or says what to do', () => {
    const lower = Array.from({ length: 128 }, (_, index) => `/var/lib/gear/l/${(40_000 + index).toString(36)}`);
    const data = ['private', 'remote'].map((name) => `/var/lib/gear/${name}/${'a'.repeat(64)}`);
    const [mount] = clientMounts({ kind: 'overlay', lower, data, upper }, { lazy: true, readOnly: false });
    expect(mount?.options.join(',').length).toBeLessThan(4096 - 512);
    const long = lower.map((path) => `/very/long/root/of/the/driver${path}`);
    expect(() => clientMounts({ kind: 'overlay', lower: long, data, upper }, { lazy: true, readOnly: false })).toThrow(
      expect.objectContaining({ code: 'resource-exhausted', message: expect.stringContaining('--root') }),
    );
  });
});
