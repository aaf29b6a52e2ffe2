import { lstat, mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { execa } from 'execa';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { program } from '../../deploy/sandbox/packages.ts';
import { cached } from './cache.ts';

const MIRROR = process.env['GEAR_TEST_DEBIAN'] ?? 'http://deb.debian.org/debian';
const ENV = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'];
// What differs from run to run and no program of an image needs.
const VOLATILE = ['var/cache/apt', 'var/lib/apt/lists', 'var/log', 'var/cache/ldconfig/aux-cache', 'var/cache/debconf'];

/** Debian bookworm's minimal system as a tar in the cache, made by debootstrap (about a minute where it is missing). */
export async function debianTar(): Promise<string> {
  return await cached('debian-bookworm-1.tar', async (path) => {
    const root = `${path}.root`;
    try {
      await execa(program('debootstrap'), ['--variant=minbase', 'bookworm', root, MIRROR]);
      await emptyVolatile(root);
      await tarOf(root, path);
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  });
}

/** Debian bookworm as an OCI layout in the cache: "oci:FOLDER:latest" in skopeo's words. */
export async function debianImage(): Promise<{ layout: string; reference: string }> {
  const tar = await debianTar();
  const layout = await cached('debian-bookworm-1.oci', async (path) => {
    await writeOciLayout(path, { layers: [{ tar: { path: tar } }], config: { Env: ENV, Cmd: ['bash'] } });
  });
  return { layout, reference: `oci:${layout}:latest` };
}

async function emptyVolatile(root: string): Promise<void> {
  for (const path of VOLATILE) await rm(join(root, path), { recursive: true, force: true });
  for (const path of [
    'var/cache/apt/archives/partial',
    'var/lib/apt/lists/partial',
    'var/log/apt',
    'var/cache/debconf',
  ]) {
    await mkdir(join(root, path), { recursive: true });
  }
}

const TAR = [
  '--numeric-owner',
  '--sort=name',
  '--xattrs',
  '--xattrs-include=*',
  '--xattrs-exclude=trusted.overlay.*',
  '--format=posix',
];
// Without the times of access and change, and the process id in names, that GNU tar puts into PAX headers.
const PLAIN_PAX = '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime';

/** A tar of a folder's content. */
async function tarOf(folder: string, path: string): Promise<void> {
  await execa('tar', ['--create', '--file', path, ...TAR, PLAIN_PAX, '--directory', folder, '.']);
}

/** An image with Debian packages on top of Debian, as a layer of its own, and an application's layer: for measuring. */
export interface Anchor {
  readonly name: string;
  readonly packages: readonly string[];
  /** What a container of it runs first. */
  readonly command: readonly string[];
}

/** The images of the table in the benchmark, with what a start of each runs. */
export const ANCHORS: readonly Anchor[] = [
  { name: 'python', packages: ['python3'], command: ['python3', '-c', 'import json,ssl,sqlite3;print(1)'] },
  { name: 'redis', packages: ['redis-server'], command: ['redis-server', '--version'] },
  { name: 'nginx', packages: ['nginx'], command: ['nginx', '-v'] },
  { name: 'gcc', packages: ['gcc'], command: ['gcc', '--version'] },
  { name: 'node', packages: ['nodejs'], command: ['node', '-e', 'console.log(1)'] },
  { name: 'java', packages: ['openjdk-17-jre-headless'], command: ['java', '-version'] },
  {
    name: 'postgres',
    packages: ['postgresql'],
    command: ['/usr/lib/postgresql/15/bin/postgres', '--version'],
  },
];

/** An anchor's image as an OCI layout in the cache (a minute or two where it is missing). */
export async function anchorImage(anchor: Anchor): Promise<{ layout: string; reference: string }> {
  const base = await debianTar();
  const layout = await cached(`anchor-${anchor.name}-1.oci`, async (path) => {
    const work = `${path}.work`;
    const at = (name: string) => join(work, name);
    await rm(work, { recursive: true, force: true });
    for (const name of ['lower', 'upper', 'overlay', 'merged']) await mkdir(at(name), { recursive: true });
    try {
      await execa('tar', [
        '--extract',
        '--file',
        base,
        '--numeric-owner',
        '--xattrs',
        '--xattrs-include=*',
        '--directory',
        at('lower'),
      ]);
      const options = `lowerdir=${at('lower')},upperdir=${at('upper')},workdir=${at('overlay')},metacopy=off,redirect_dir=off`;
      await execa('mount', ['-t', 'overlay', 'overlay', '-o', options, at('merged')]);
      await installInto(at('merged'), anchor.packages);
      await emptyVolatile(at('merged'));
      await execa('umount', [at('merged')]);
      await whiteoutsAsNames(at('upper'));
      await tarOf(at('upper'), at('packages.tar'));
      await mkdir(at('app/srv'), { recursive: true });
      await writeFile(at('app/srv/about'), `${anchor.name}\n`);
      await tarOf(at('app'), at('app.tar'));
      await writeOciLayout(path, {
        layers: [base, at('packages.tar'), at('app.tar')].map((tar) => ({ tar: { path: tar } })),
        config: { Env: ENV, Cmd: anchor.command },
      });
    } finally {
      await execa('umount', ['--lazy', at('merged')], { reject: false });
      await rm(work, { recursive: true, force: true });
    }
  });
  return { layout, reference: `oci:${layout}:latest` };
}

// dpkg wants /proc; services must not start; the resolver is the machine's.
async function installInto(root: string, packages: readonly string[]): Promise<void> {
  await writeFile(join(root, 'usr/sbin/policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  await execa('mount', ['-t', 'proc', 'proc', join(root, 'proc')]);
  try {
    await execa('cp', ['--dereference', '/etc/resolv.conf', join(root, 'etc/resolv.conf')]);
    const env = { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C', PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
    await execa('chroot', [root, 'apt-get', 'update', '-qq'], { env });
    await execa('chroot', [root, 'apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...packages], { env });
  } finally {
    await execa('umount', [join(root, 'proc')]);
    await rm(join(root, 'usr/sbin/policy-rc.d'), { force: true });
  }
}

// On disk overlayfs marks a deletion by a device 0:0; in a layer's tar its name says so.
async function whiteoutsAsNames(upper: string): Promise<void> {
  const { stdout } = await execa('find', [upper, '-type', 'c', '-print0'], { stripFinalNewline: false });
  for (const path of stdout.split('\0').filter((name) => name !== '')) {
    if ((await lstat(path)).rdev !== 0) continue;
    await rm(path);
    await writeFile(join(dirname(path), `.wh.${basename(path)}`), '');
  }
}
