import { lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isGearError } from '#core/errors.ts';
import { silentLogger } from '#core/log.ts';
import { FactoryBackend } from '../../driver/docker/backend.ts';
import { PluginClient } from '../../driver/docker/client.ts';
import { NO_OPTIONS } from '../../driver/docker/driver.ts';
import { isDriverError } from '../../driver/docker/errors.ts';
import { type PluginAddress, servePlugin } from '../../driver/docker/server.ts';
import { createVfs } from '../../driver/docker/vfs.ts';
import { setTimes } from '../../driver/kernel/inode.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { runDifferential } from '../support/differential.ts';
import { layerTar } from '../support/layer-tar.ts';
import { pieces, readAll } from '../support/tar-read.ts';
import { diffTrees, treeOf } from '../support/tree.ts';

const log = silentLogger();

/** A vfs plugin below `base`, and a client of it after Init. */
async function vfsPlugin(stack: AsyncDisposableStack, base: string, listen: PluginAddress) {
  const backend = new FactoryBackend((context) => createVfs(context, { untilNextSecond: false }), log);
  const server = stack.use(
    await servePlugin({
      name: 'vfs',
      listen,
      init: (options) => backend.init(options),
      current: () => backend.current(),
      log,
    }),
  );
  const client = stack.use(new PluginClient(server.address, 'vfs'));
  expect(await client.activate()).toEqual(['GraphDriver']);
  await client.init({ home: join(base, 'home/vfs') });
  return { server, client };
}

const unix = (base: string): PluginAddress => ({ kind: 'unix', path: join(base, 'vfs.sock') });
const tcp = (base: string): PluginAddress => ({
  kind: 'tcp',
  address: '127.0.0.1:0',
  specFolder: join(base, 'plugins'),
});

describe.each([
  ['a unix socket', unix],
  ['TCP', tcp],
])('vfs as a plugin on %s', (_, listen) => {
  it('does all that Docker asks of a graphdriver', async () => {
    await using folder = await temporaryFolder();
    await using stack = new AsyncDisposableStack();
    const { client } = await vfsPlugin(stack, folder.path, listen(folder.path));

    await client.create('base', '', NO_OPTIONS);
    const size = await client.applyDiff(
      'base',
      '',
      pieces(
        await layerTar([
          { path: 'etc/' },
          { path: 'etc/passwd', body: 'root' },
          { path: 'bin', link: 'usr/bin' },
          { path: 'doomed', body: 'x'.repeat(100_000) },
        ]),
      ),
    );
    expect(size).toBe(100_004);
    await client.createReadWrite('top', 'base', { mountLabel: '', storageOpt: {} });
    const root = await client.get('top', '');
    expect((await readdir(root)).sort()).toEqual(['bin', 'doomed', 'etc']);
    writeFileSync(join(root, 'etc/new'), 'new');
    setTimes(join(root, 'etc/new'), 1_600_000_000, 5);
    await client.applyDiff('top', 'base', pieces(await layerTar([{ path: '.wh.doomed' }])));

    const expected = [
      { path: '/doomed', kind: 2 },
      { path: '/etc', kind: 0 },
      { path: '/etc/new', kind: 1 },
    ];
    expect(await client.changes('top', 'base')).toEqual(expected);
    expect(await client.diffSize('top', 'base')).toBe(3);
    const diff = Buffer.concat(await (await client.diff('top', 'base')).toArray());
    expect((await readAll(diff)).map(({ path }) => path)).toEqual(['.wh.doomed', 'etc/', 'etc/new']);
    await client.create('copy', 'base', NO_OPTIONS);
    expect(await client.applyDiff('copy', 'base', pieces(diff))).toBe(3);
    const copy = await treeOf(await client.get('copy', ''));
    expect(diffTrees(await treeOf(root), copy, { ignore: ['mtime'] })).toEqual([]);

    expect(await client.getMetadata('top')).toEqual({ Dir: root });
    expect(Object.fromEntries(await client.status())).toMatchObject({ Layers: '3' });
    for (const id of ['copy', 'top', 'top']) await client.put(id);
    for (const id of ['copy', 'top', 'top', 'never']) await client.remove(id);
    expect([await client.exists('top'), await client.exists('base')]).toEqual([false, true]);
    await client.cleanup();
    expect(await readdir(join(folder.path, 'home/vfs/building'))).toEqual([]);
  });
});

describe('vfs', () => {
  it('answers as the driver itself does, through a plugin', async () => {
    await using folder = await temporaryFolder();
    await using stack = new AsyncDisposableStack();
    const { client } = await vfsPlugin(stack, folder.path, unix(folder.path));
    const context = { options: [], uidMaps: [], gidMaps: [], log, home: join(folder.path, 'direct') };
    const direct = await createVfs(context, { untilNextSecond: false });
    await runDifferential(direct, client, { seed: 11, steps: 80 });
  });

  it('says by name what it does not take', async () => {
    await using folder = await temporaryFolder();
    await using stack = new AsyncDisposableStack();
    const { client } = await vfsPlugin(stack, folder.path, unix(folder.path));
    const home = join(folder.path, 'other');
    const invalid = (error: unknown) => isDriverError(error, 'invalid-option');
    await expect(client.init({ home, options: ['vfs.size=1G'] })).rejects.toThrow(/vfs.size=1G/);
    const maps = [{ containerId: 0, hostId: 100_000, size: 65_536 }];
    await expect(client.init({ home, uidMaps: maps })).rejects.toSatisfy(invalid);
    await expect(client.create('x', '', { mountLabel: '', storageOpt: { size: '1G' } })).rejects.toThrow(/option size/);
    expect(await client.exists('x')).toBe(false);
    await expect(client.create('x', 'nothing', NO_OPTIONS)).rejects.toSatisfy((error) =>
      isDriverError(error, 'unknown-layer'),
    );
    await client.create('x', '', NO_OPTIONS);
    // Again, as after a broken connection.
    await client.create('x', '', NO_OPTIONS);
    await expect(client.createReadWrite('x', '', NO_OPTIONS)).rejects.toSatisfy((error) =>
      isDriverError(error, 'layer-exists'),
    );
    await expect(client.get('nothing', '')).rejects.toThrow('no layer nothing here');
  });

  it('serves several homes, one after the other, and keeps their layers', async () => {
    await using folder = await temporaryFolder();
    await using stack = new AsyncDisposableStack();
    const { client } = await vfsPlugin(stack, folder.path, unix(folder.path));
    await client.create('first', '', NO_OPTIONS);
    await client.init({ home: join(folder.path, 'two') });
    expect(await client.exists('first')).toBe(false);
    await client.create('second', '', NO_OPTIONS);
    await client.init({ home: join(folder.path, 'home/vfs') });
    expect([await client.exists('first'), await client.exists('second')]).toEqual([true, false]);
  });

  it('removes what an interrupted creation left', async () => {
    await using folder = await temporaryFolder();
    const home = join(folder.path, 'home');
    const context = { options: [], uidMaps: [], gidMaps: [], log, home };
    await createVfs(context);
    mkdirSync(join(home, 'building/half/root'), { recursive: true });
    writeFileSync(join(folder.path, 'outside'), 'precious');
    symlinkSync(folder.path, join(home, 'building/half/root/out'));
    await createVfs(context);
    expect(await readdir(join(home, 'building'))).toEqual([]);
    expect(await readFile(join(folder.path, 'outside'), 'utf8')).toBe('precious');
  });

  it('leaves a layer as it was when a creation is aborted', async () => {
    await using folder = await temporaryFolder();
    const home = join(folder.path, 'home');
    const driver = await createVfs({ options: [], uidMaps: [], gidMaps: [], log, home });
    await driver.create('a', '', NO_OPTIONS);
    const root = await driver.get('a', '');
    for (let count = 0; count < 500; count++) writeFileSync(join(root, `f${count}`), 'x');
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(driver.create('b', 'a', { ...NO_OPTIONS, signal })).rejects.toThrow('enough');
    expect(await driver.exists('b')).toBe(false);
    expect(await readdir(join(home, 'building'))).toEqual([]);
    expect(lstatSync(join(root, 'f499')).size).toBe(1);
    expect(readFileSync(join(home, 'layers/a/layer.json'), 'utf8')).toBe('{"parent":"","readWrite":false}');
  });

  it('gives a truncated layer as an error, and takes the layer anew', async () => {
    await using folder = await temporaryFolder();
    await using stack = new AsyncDisposableStack();
    const { client } = await vfsPlugin(stack, folder.path, unix(folder.path));
    const tar = await layerTar([{ path: 'f', body: 'x'.repeat(100_000) }]);
    await client.create('x', '', NO_OPTIONS);
    const cut = client.applyDiff('x', '', pieces(tar.subarray(0, 50_000)));
    await expect(cut).rejects.toSatisfy((error) => isGearError(error, 'corrupt'));
    await client.remove('x');
    await client.create('x', '', NO_OPTIONS);
    expect(await client.applyDiff('x', '', pieces(tar))).toBe(100_000);
  });
});
