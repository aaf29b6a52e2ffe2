import { createLogger } from '../core/log.ts';
import { GearPlugin } from '../driver/docker/gear/gear-plugin.ts';
import { servePlugin } from '../driver/docker/server.ts';
import { ImageStore } from '../driver/images/image-store.ts';
import { nodePaths } from '../driver/paths.ts';

const log = createLogger('x', 'info');
const paths = nodePaths('/tmp/gx-root');
const images = await ImageStore.open({ paths, format: 'erofs', log });
const plugin = await GearPlugin.open('/tmp/gx-root', { images, statusLines: () => [], log });
const s = await servePlugin({
  name: 'gx',
  listen: { kind: 'unix', path: '/tmp/gx.sock' },
  init: (o) => plugin.init(o),
  current: () => plugin.current,
  log,
});
console.error(s.address);
process.on('SIGTERM', () => {
  s[Symbol.asyncDispose]().then(() => process.exit(0));
});
