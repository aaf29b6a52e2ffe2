import { join } from 'node:path';
import { expect, it } from 'vitest';
import { silentLogger } from '#core/log.ts';
import { createVfs } from '../../driver/docker/vfs.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { runDifferential } from '../support/differential.ts';

// What the harness itself does is right when the reference driver does not differ from itself.
it.each([1, 2, 3])('vfs does as vfs does, seed %i', async (seed) => {
  await using folder = await temporaryFolder();
  const context = { options: [], uidMaps: [], gidMaps: [], log: silentLogger() };
  const [first, second] = await Promise.all(
    ['a', 'b'].map((name) => createVfs({ ...context, home: join(folder.path, name) }, { untilNextSecond: false })),
  );
  if (first === undefined || second === undefined) throw new Error('no drivers');
  const counts = await runDifferential(first, second, { seed, steps: 120 });
  expect(counts.size).toBeGreaterThan(10);
});

it('finds a driver that answers wrongly', async () => {
  await using folder = await temporaryFolder();
  const context = { options: [], uidMaps: [], gidMaps: [], log: silentLogger() };
  const first = await createVfs({ ...context, home: join(folder.path, 'a') }, { untilNextSecond: false });
  const second = await createVfs({ ...context, home: join(folder.path, 'b') }, { untilNextSecond: false });
  const { diffSize } = second;
  second.diffSize = async (...values) => (await diffSize.apply(second, values)) + 1;
  await expect(runDifferential(first, second, { seed: 1, steps: 120 })).rejects.toThrow(/differ, seed 1.*diffSize/s);
});
