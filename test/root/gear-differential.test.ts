import { join } from 'node:path';
import { expect, it } from 'vitest';
import { silentLogger } from '#core/log.ts';
import { GearDriver } from '../../driver/docker/gear/gear-driver.ts';
import { createVfs } from '../../driver/docker/vfs.ts';
import { ImageStore } from '../../driver/images/image-store.ts';
import { nodePaths } from '../../driver/paths.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { runDifferential } from '../support/differential.ts';

// Ordinary layers: on Gear layers there is nothing to compare with, for vfs has none.
it.each([1, 2, 3, 4])('gear does as vfs does, seed %i', async (seed) => {
  await using folder = await temporaryFolder();
  const log = silentLogger();
  const none = { options: [], uidMaps: [], gidMaps: [] };
  const images = await ImageStore.open({ paths: nodePaths(join(folder.path, 'root')), format: 'directory', log });
  const gear = await GearDriver.open(
    { ...none, home: join(folder.path, 'gear') },
    { images, statusLines: () => [], log },
  );
  const vfs = await createVfs({ ...none, home: join(folder.path, 'vfs'), log }, { untilNextSecond: false });
  const counts = await runDifferential(gear, vfs, { seed, steps: 150 });
  expect(counts.size).toBeGreaterThan(10);
});
