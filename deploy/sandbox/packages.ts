import { existsSync } from 'node:fs';

// docker.io puts the client into /usr/bin; a machine may have a newer one in front of it that no longer knows the classic builder.
const FOLDERS = ['/usr/bin', '/usr/sbin', '/bin', '/sbin', '/usr/local/bin', '/usr/local/sbin'];

/** The Debian package that brings a program which the tests run. The lists deploy/packages and test/packages install them. */
const PACKAGE_OF = {
  dockerd: 'docker.io',
  docker: 'docker.io',
  containerd: 'containerd',
  ctr: 'containerd',
  'ctr-remote': 'stargz-snapshotter',
  runc: 'runc',
  'docker-registry': 'docker-registry',
  skopeo: 'skopeo',
  umoci: 'umoci',
  debootstrap: 'debootstrap',
  busybox: 'busybox-static',
  'fsck.erofs': 'erofs-utils',
  'ganesha.nfsd': 'nfs-ganesha',
  'nfs-cat': 'libnfs-utils',
  'nfs-ls': 'libnfs-utils',
  'qemu-system-x86_64': 'qemu-system-x86',
  chromium: 'chromium',
} as const;

export type Program = keyof typeof PACKAGE_OF;

/** The path of a program; throws, naming its Debian package, where it is missing. */
export function program(name: Program): string {
  for (const folder of FOLDERS) {
    if (existsSync(`${folder}/${name}`)) return `${folder}/${name}`;
  }
  throw new Error(`${name} is not installed: apt-get install --no-install-recommends ${PACKAGE_OF[name]}`);
}

/** Whether all of these programs are installed. */
export function have(...names: Program[]): boolean {
  return names.every((name) => FOLDERS.some((folder) => existsSync(`${folder}/${name}`)));
}
