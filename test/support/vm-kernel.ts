import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { execa } from 'execa';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { cached } from '../images/cache.ts';

/** A kernel with what the tests need of it. */
export interface VmKernel {
  readonly image: string;
  /** Uncompressed modules, in the order in which they are to be loaded. */
  readonly modules: readonly string[];
}

/** What is not built into Debian's cloud kernel. */
const WANTED = ['virtio_blk', 'virtio_net', 'nfsv4', 'overlay', 'erofs', 'loop'];
const PACKAGE = /^linux-image-6\.12\.\d+\+deb12-cloud-amd64-unsigned$/;

/** The newest kernel of this kind that the package sources have. Throws where they have none or cannot be reached. */
async function newestPackage(): Promise<string> {
  const list = async () => {
    const { stdout } = await execa('apt-cache', ['pkgnames', 'linux-image-6.12.'], { timeout: 30_000 });
    return stdout.split('\n').filter((name) => PACKAGE.test(name));
  };
  let names = await list();
  if (names.length === 0) {
    await execa('apt-get', ['update', '-qq'], { timeout: 120_000 });
    names = await list();
  }
  const newest = names.sort(new Intl.Collator('en', { numeric: true }).compare).at(-1);
  if (newest === undefined)
    throw new Error('the package sources have no linux-image-6.12.*+deb12-cloud-amd64-unsigned');
  return newest;
}

async function unpack(target: string): Promise<void> {
  const name = await newestPackage();
  await using folder = await temporaryFolder();
  await execa('apt-get', ['download', '-qq', name], { cwd: folder.path, timeout: 120_000 });
  const [archive] = (await readdir(folder.path)).filter((file) => file.endsWith('.deb'));
  if (archive === undefined) throw new Error(`apt-get download ${name} brought nothing`);
  const root = join(folder.path, 'root');
  await execa('dpkg-deb', ['-x', join(folder.path, archive), root]);
  const [version] = await readdir(join(root, 'lib/modules'));
  if (version === undefined) throw new Error(`${name} has no modules`);
  const tree = join(root, 'lib/modules', version);
  await execa('find', [tree, '-name', '*.ko.xz', '-exec', 'xz', '-d', '{}', '+']);
  await execa('busybox', ['depmod', '-b', root, version]);
  await mkdir(join(target, 'modules'), { recursive: true });
  await cp(join(root, `boot/vmlinuz-${version}`), join(target, 'vmlinuz'));
  const order = loadOrder(await readFile(join(tree, 'modules.dep'), 'utf8'));
  for (const path of order) await cp(join(tree, path), join(target, 'modules', basename(path)));
  await writeFile(join(target, 'order'), order.map((path) => basename(path)).join('\n'));
  await rm(root, { recursive: true });
}

/** The wanted modules with all that they need, each behind what it needs; paths as modules.dep(5) has them. */
export function loadOrder(dependencies: string): string[] {
  const needs = new Map(
    dependencies
      .split('\n')
      .filter((line) => line.includes(':'))
      .map((line) => {
        const [path = '', rest = ''] = line.split(':');
        return [path, rest.trim().split(/\s+/).filter(Boolean)] as const;
      }),
  );
  const order = new Set<string>();
  const add = (path: string) => {
    if (order.has(path)) return;
    for (const needed of needs.get(path) ?? []) add(needed);
    order.add(path);
  };
  for (const name of WANTED) {
    const path = [...needs.keys()].find((known) => basename(known) === `${name}.ko`);
    if (path !== undefined) add(path);
  }
  return [...order];
}

/** Debian's 6.12 cloud kernel, downloaded once. Throws why it cannot be had. */
export async function vmKernel(): Promise<VmKernel> {
  const folder = await cached('vm-kernel-6.12-a', unpack);
  const order = (await readFile(join(folder, 'order'), 'utf8')).split('\n');
  return { image: join(folder, 'vmlinuz'), modules: order.map((name) => join(folder, 'modules', name)) };
}
