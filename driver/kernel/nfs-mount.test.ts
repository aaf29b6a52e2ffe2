import { describe, expect, it } from 'vitest';
import { type NfsMount, nfsMountOptions } from './nfs-mount.ts';

const MOUNT: NfsMount = { server: { host: '10.0.0.1', port: 2049 }, path: '/objects', version: '4.1' };

describe('the options of an NFS mount', () => {
  it('are read-only, hard, without programs, setuid and devices, and name the version', () => {
    const options = nfsMountOptions({ ...MOUNT, connections: 4, readSize: 262_144 });
    expect(options.slice(0, 6)).toEqual(['ro', 'nosuid', 'nodev', 'noexec', 'vers=4.1', 'addr=10.0.0.1']);
    expect(options).toEqual(expect.arrayContaining(['hard', 'proto=tcp', 'nconnect=4', 'rsize=262144', 'port=2049']));
    expect(nfsMountOptions({ ...MOUNT, server: { host: 'fd00::1', port: 1 } })).toContain('addr=fd00::1');
    expect(nfsMountOptions(MOUNT).join()).not.toMatch(/nconnect|rsize/);
  });

  it.each<[string, Partial<NfsMount>, RegExp]>([
    ['a name', { server: { host: 'example.org', port: 2049 } }, /is not an address/],
    ['a comma in the address', { server: { host: '10.0.0.1,rw', port: 2049 } }, /is not an address/],
    ['a zone', { server: { host: 'fe80::1%eth0', port: 2049 } }, /is not an address/],
    ['port 0', { server: { host: '10.0.0.1', port: 0 } }, /the port has to be from 1 to 65535/],
    ['a comma in the path', { path: '/objects,rw' }, /without commas/],
    ['a space in the path', { path: '/a b' }, /without commas/],
    ['a newline in the path', { path: '/a\nb' }, /without commas/],
    ['a relative path', { path: 'objects' }, /absolute path/],
    ['a way out of the path', { path: '/objects/../x' }, /absolute path/],
    ['another version', { version: '4.1,rw' as '4.1' }, /there is no version/],
    ['no connection', { connections: 0 }, /nconnect has to be from 1 to 16/],
    ['half a connection', { connections: 1.5 }, /nconnect/],
    ['a small read', { readSize: 100 }, /rsize has to be from 4096/],
    ['no number', { readSize: Number.NaN }, /rsize/],
  ])('refuse %s', (_what, change, message) => {
    expect(() => nfsMountOptions({ ...MOUNT, ...change })).toThrow(message);
  });
});
