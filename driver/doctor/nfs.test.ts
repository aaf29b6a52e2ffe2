import { describe, expect, it } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { type NfsFacts, nfsChecks } from './nfs.ts';

const FACTS: NfsFacts = {
  client: true,
  described: {
    server: { host: '10.0.0.1', port: 2049 },
    path: '/objects',
    versions: ['4.0', '4.1'],
    probe: { path: '.gear/probe', size: 1, digest: digestOf(Buffer.from('x')) },
  },
  isOff: false,
  reason: '',
  content: '',
  mount: undefined,
};
const MOUNT = { reason: '', server: '10.0.0.1:2049', version: '4.1', since: 0, mounts: 1, ended: 0 } as const;

describe('checks of NFS', () => {
  it.each<[string, Partial<NfsFacts>, Record<string, string>]>([
    ['all well', {}, { 'nfs.export': 'ok', 'nfs.content': 'ok', 'nfs.client': 'ok' }],
    [
      'not wanted',
      { described: undefined, isOff: true, reason: 'off', client: false },
      { 'nfs.export': 'unknown', 'nfs.client': 'unknown' },
    ],
    ['down', { described: undefined, reason: 'does not answer' }, { 'nfs.export': 'warning', 'nfs.client': 'ok' }],
    ['another store', { content: 'another' }, { 'nfs.export': 'ok', 'nfs.content': 'warning', 'nfs.client': 'ok' }],
    [
      'no client',
      { client: false, mount: { ...MOUNT, state: 'off' } },
      { 'nfs.export': 'ok', 'nfs.content': 'ok', 'nfs.client': 'warning', 'nfs.mount': 'warning' },
    ],
    [
      'mounted',
      { mount: { ...MOUNT, state: 'trusted' } },
      { 'nfs.export': 'ok', 'nfs.content': 'ok', 'nfs.client': 'ok', 'nfs.mount': 'ok' },
    ],
  ])('%s', (_what, change, states) => {
    const checks = nfsChecks({ ...FACTS, ...change });
    expect(Object.fromEntries(checks.map(({ id, state }) => [id, state]))).toEqual(states);
    for (const { state, remedy } of checks) expect(remedy === undefined).toBe(state === 'ok');
  });
});
