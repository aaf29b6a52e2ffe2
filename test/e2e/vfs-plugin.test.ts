import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { expect, it } from 'vitest';
import { silentLogger } from '#core/log.ts';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { FactoryBackend } from '../../driver/docker/backend.ts';
import { servePlugin } from '../../driver/docker/server.ts';
import { createVfs } from '../../driver/docker/vfs.ts';
import { BUSYBOX_LAYER } from '../images/quick.ts';

// The graphdriver library under a real dockerd, with the reference driver: what fails here is not Gear's.
it('dockerd imports, runs, diffs, commits, builds, saves and loads on a plugin of the library', async () => {
  await using folder = await temporaryFolder();
  const name = `${basename(folder.path).toLowerCase()}-vfs`;
  const log = silentLogger();
  const backend = new FactoryBackend(createVfs, log);
  await using _server = await servePlugin({
    name,
    listen: { kind: 'unix', path: join('/run/docker/plugins', `${name}.sock`) },
    init: (options) => backend.init(options),
    current: () => backend.current(),
    log,
  });
  await using daemon = await startDockerd({ storageDriver: name });
  const { docker } = daemon;
  expect(await docker.run(['info', '--format', '{{.Driver}}'])).toBe(name);

  await docker.run(['import', '-', 'base'], { input: BUSYBOX_LAYER() });
  expect(await docker.once('base', ['stat', '-c', '%a %h', '/bin/busybox'])).toMatch(/^4755 [1-9][0-9]+$/);

  const script =
    'mkdir -p /new/dir && echo hello > /new/dir/file && chmod 2751 /new && ln /new/dir/file /new/link && rm /bin/od';
  const id = await docker.detached('base', ['sh', '-c', script]);
  expect(await docker.run(['wait', id])).toBe('0');
  const changed = (await docker.run(['diff', id])).split('\n').sort();
  expect(changed).toEqual(['A /new', 'A /new/dir', 'A /new/dir/file', 'A /new/link', 'C /bin', 'D /bin/od']);
  await docker.run(['commit', id, 'committed']);
  expect(await docker.once('committed', ['stat', '-c', '%a %h', '/new', '/new/link'])).toBe('2751 3\n644 2');
  expect((await docker.attempt(['run', '--rm', 'committed', 'od'])).exitCode).toBe(127);

  const context = join(folder.path, 'context');
  await mkdir(context);
  await writeFile(
    join(context, 'Dockerfile'),
    'FROM committed\nCOPY data /data\nRUN rm -r /new && echo more >> /data\n',
  );
  await writeFile(join(context, 'data'), 'data\n');
  await docker.run(['build', '--network=none', '-t', 'built', context]);
  expect(await docker.once('built', ['sh', '-c', 'cat /data; ls /'])).toMatch(/^data\nmore\n(?!.*new)/s);

  const layers = (await docker.inspect('built')).RootFS.Layers;
  const saved = await docker.bytes(['save', 'built']);
  await docker.run(['rm', id]);
  await docker.run(['rmi', '-f', 'built', 'committed', 'base']);
  expect(await docker.run(['images', '-aq'])).toBe('');
  await docker.run(['load'], { input: saved });
  // Docker has put the tars together from the files that the driver shows, and checks their digests.
  expect((await docker.inspect('built')).RootFS.Layers).toEqual(layers);
  expect(await docker.once('built', ['cat', '/data'])).toBe('data\nmore');
});
