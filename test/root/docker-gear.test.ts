import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { silentLogger } from '#core/log.ts';
import { PluginClient } from '../../driver/docker/client.ts';
import { NO_OPTIONS } from '../../driver/docker/driver.ts';
import { isDriverError } from '../../driver/docker/errors.ts';
import { GearPlugin } from '../../driver/docker/gear/gear-plugin.ts';
import { servePlugin } from '../../driver/docker/server.ts';
import { ImageStore } from '../../driver/images/image-store.ts';
import { nodePaths } from '../../driver/paths.ts';
import { temporaryFolder } from '../support/cleanup.ts';

const log = silentLogger();

/** A gear plugin as the driver's process serves it, and a client of it after Init. Nothing here is a Gear layer, so nobody needs objects. */
async function gearPlugin(stack: AsyncDisposableStack, base: string) {
  const root = join(base, 'root');
  const images = await ImageStore.open({ paths: nodePaths(root), format: 'directory', log });
  const plugin = await GearPlugin.open(root, { images, statusLines: () => [], log });
  const server = stack.use(
    await servePlugin({
      name: 'gear',
      listen: { kind: 'unix', path: join(base, 'gear.sock') },
      init: (options) => plugin.init(options),
      current: () => plugin.current,
      log,
    }),
  );
  const client = stack.use(new PluginClient(server.address, 'gear'));
  await client.init({ home: join(base, 'home') });
  return client;
}

const maps = [{ containerId: 0, hostId: 100_000, size: 65_536 }];

it.each([
  ['a storage option', { options: ['gear.size=1G'] }, /storage option "gear.size=1G" is unknown to the gear driver/],
  ['the option of another driver', { options: ['overlay2.size=1G'] }, /storage option "overlay2.size=1G"/],
  ['user id maps', { uidMaps: maps }, /gear driver does not support user namespaces.*--userns-remap/],
  ['group id maps', { gidMaps: maps }, /gear driver does not support user namespaces.*--userns-remap/],
])('gear refuses %s by name, and goes on with the home that it has', async (_, options, message) => {
  await using folder = await temporaryFolder();
  await using stack = new AsyncDisposableStack();
  const client = await gearPlugin(stack, folder.path);
  await client.create('before', '', NO_OPTIONS);
  const refused = client.init({ home: join(folder.path, 'other'), ...options });
  await expect(refused).rejects.toThrow(message);
  await expect(refused).rejects.toSatisfy((error) => isDriverError(error, 'invalid-option'));
  expect(existsSync(join(folder.path, 'other'))).toBe(false);
  expect(await client.exists('before')).toBe(true);
});

it.each(['create', 'createReadWrite'] as const)('gear refuses --storage-opt in %s by name', async (method) => {
  await using folder = await temporaryFolder();
  await using stack = new AsyncDisposableStack();
  const client = await gearPlugin(stack, folder.path);
  const refused = client[method]('x', '', { mountLabel: '', storageOpt: { size: '1G' } });
  await expect(refused).rejects.toThrow('--storage-opt size is not supported by the gear driver (layer x)');
  await expect(refused).rejects.toSatisfy((error) => isDriverError(error, 'invalid-option'));
  expect(await client.exists('x')).toBe(false);
  await client[method]('x', '', NO_OPTIONS);
  expect(await client.exists('x')).toBe(true);
});
