import { mkdir } from 'node:fs/promises';
import { createLogger } from '#core/log.ts';
import { ContainerdFrontEnd } from '../../driver/containerd/front-end.ts';
import { ImageStore } from '../../driver/images/image-store.ts';
import { nodePaths } from '../../driver/paths.ts';

// containerd's front end alone, without the object filesystem and Docker's: a process that tests kill. Arguments: root, socket, manager's address.
const [root = '', socket = '', manager = ''] = process.argv.slice(2);
const log = createLogger('host', 'warn');
const paths = nodePaths(root);
await mkdir(root, { recursive: true });
const images = await ImageStore.open({ paths, format: 'erofs', objects: undefined, log });
const frontEnd = await ContainerdFrontEnd.open({ paths, images, manager, log });
await images.sweep();
await frontEnd.serve(socket);
process.stdout.write('ready\n');
