import { describe, expect, it } from 'vitest';
import { silentLogger } from '#core/log.ts';
import { ganeshaConfig } from './ganesha-config.ts';
import { logGaneshaLine } from './ganesha-log.ts';
import { exportName, exportOptions, spokenVersions } from './kernel-server.ts';
import { isAllowed } from './networks.ts';
import { exportConfig, parseNetwork } from './options.ts';
import { probeBytes, storeOf } from './probe-file.ts';

const OPTIONS = { kind: 'ganesha', listen: '0.0.0.0:2049', allow: '10.0.0.0/8, fd00::1', versions: '4.0,4.1' } as const;

describe('networks', () => {
  it('are addresses with bits', () => {
    expect(parseNetwork('10.1.0.0/16', '--x')).toBe('10.1.0.0/16');
    expect(parseNetwork('10.1.2.3', '--x')).toBe('10.1.2.3/32');
    expect(parseNetwork('fd00::1', '--x')).toBe('fd00::1/128');
    for (const wrong of [
      '',
      '*',
      '10.0.0.0/33',
      '10.0.0.0/-1',
      '10.0.0.0/8/8',
      '10.0.0.0/',
      'fe80::1%eth0',
      'host',
      '10.0.0/8',
    ])
      expect(() => parseNetwork(wrong, '--x')).toThrow(/--x: expected ADDRESS\/BITS/);
  });

  it('hold addresses', () => {
    expect(isAllowed('10.200.0.1', ['192.168.0.0/16', '10.0.0.0/8'])).toBe(true);
    expect(isAllowed('11.0.0.1', ['10.0.0.0/8'])).toBe(false);
    expect(isAllowed('::1', ['127.0.0.0/8'])).toBe(false);
  });
});

describe('what servers are told', () => {
  it('is one export, read-only, for the allowed', () => {
    const config = exportConfig(OPTIONS);
    expect(config.allow).toEqual(['10.0.0.0/8', 'fd00::1/128']);
    const text = ganeshaConfig(config, { objects: '/srv/gear/objects', state: '/srv/gear/nfs' });
    expect(text.match(/EXPORT \{/g)?.length).toBe(1);
    expect(text).toContain('Minor_Versions = 0, 1;');
    expect(text).toContain('Clients = 10.0.0.0/8, fd00::1;\n    Access_Type = RO;');
    expect(text).not.toMatch(/Access_Type = RW/);
    expect(() => ganeshaConfig(config, { objects: '/srv/"; }', state: '/x' })).toThrow(/cannot be exported/);
  });

  it('names exactly one folder and client to exportfs', () => {
    expect(exportName('10.0.0.0/8', '/srv/objects')).toBe('10.0.0.0/8:/srv/objects');
    expect(exportName('fd00::/16', '/srv/objects')).toBe('[fd00::]/16:/srv/objects');
    for (const path of ['/a b', '/a:b', '/a,b', 'a', '/a\\b'])
      expect(() => exportName('10.0.0.0/8', path)).toThrow(/cannot be/);
    expect(exportOptions('id').split(',')).toEqual(expect.arrayContaining(['ro', 'all_squash', 'fsid=id']));
    expect(spokenVersions('-2 -3 +4 +4.0 -4.1 +4.2\n', ['4.0', '4.1'])).toEqual(['4.0']);
  });
});

it('tells what is wrong from what ganesha always complains of', () => {
  const line = (where: string, level: string) =>
    `21/11/2026 01:53:23 : epoch 6b00f993 : vm : nfs-ganesha-1[main] ${where} :CONFIG :${level} :a text: with colons`;
  const log = silentLogger();
  expect(logGaneshaLine(line('fsal_cfg_commit', 'CRIT'), log)).toBe('a text: with colons');
  expect(logGaneshaLine(line('gsh_dbus_pkginit', 'CRIT'), log)).toBeUndefined();
  expect(logGaneshaLine(line('main', 'EVENT'), log)).toBeUndefined();
  expect(logGaneshaLine('something else', log)).toBeUndefined();
});

it('has another probe for another store, without zeros', () => {
  const id = '01234567-89ab-cdef-0123-456789abcdef';
  expect(storeOf(probeBytes(id))).toBe(id);
  expect(probeBytes(id).equals(probeBytes(id.replace('0', '1')))).toBe(false);
  expect(probeBytes(id).includes(Buffer.alloc(8))).toBe(false);
  expect(storeOf(Buffer.from('hello'))).toBeUndefined();
});
