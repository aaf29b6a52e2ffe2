import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { nerdctlChecks, readNerdctlSnapshotter } from './nerdctl.ts';

it.each([
  ['debug = false\nsnapshotter = "gear" # lazy\n', 'gear'],
  ["snapshotter='stargz'", 'stargz'],
  ['# snapshotter = "gear"\n', undefined],
  ['[table]\nsnapshotter = "gear"\n', undefined],
  ['', undefined],
])('reads the snapshotter of %j', (toml, snapshotter) => {
  expect(readNerdctlSnapshotter(toml)).toBe(snapshotter);
});

it('is content with the file of deploy/containerd', async () => {
  const toml = await readFile(new URL('../../deploy/containerd/nerdctl.toml', import.meta.url), 'utf8');
  const [own] = nerdctlChecks({ version: '2.0.0', snapshotter: readNerdctlSnapshotter(toml) }, true);
  expect(own).toMatchObject({ id: 'containerd.nerdctl', state: 'ok' });
});

it('warns of another snapshotter where containerd goes through Gear, and says nothing without nerdctl', () => {
  expect(nerdctlChecks({ version: '2.0.0', snapshotter: undefined }, true)).toMatchObject([{ state: 'warning' }]);
  expect(nerdctlChecks({ version: '2.0.0', snapshotter: 'overlayfs' }, false)).toMatchObject([{ state: 'unknown' }]);
  expect(nerdctlChecks({ version: undefined, snapshotter: undefined }, true)).toEqual([]);
});
