import { createLogger } from '../../core/log.ts';
import { FactoryBackend } from '../../driver/docker/backend.ts';
import { servePlugin } from '../../driver/docker/server.ts';
import { createVfs } from '../../driver/docker/vfs.ts';

// Serves the vfs driver at the unix socket of the first argument until SIGTERM or SIGINT: for suites that need a plugin.
const [path] = process.argv.slice(2);
if (path === undefined) throw new Error('usage: node test/support/vfs-server.ts SOCKET');
const log = createLogger('vfs', 'warn');
const backend = new FactoryBackend(createVfs, log);
await using _server = await servePlugin({
  name: 'vfs',
  listen: { kind: 'unix', path },
  init: (options) => backend.init(options),
  current: () => backend.current(),
  log,
});
const { promise, resolve } = Promise.withResolvers<void>();
for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve());
process.stdout.write('ready\n');
await promise;
