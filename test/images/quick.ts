import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { type ImageDescription, type WrittenImage, writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { program } from '../../deploy/sandbox/packages.ts';
import { copyImage } from '../../deploy/sandbox/skopeo.ts';
import { archive, directory, file, hardLink, noise, symlink } from './tar-bytes.ts';

/** Bytes in a chunk, as Gear's default is. */
export const CHUNK = 128 * 1024;
/** A file of 24 chunks and a bit, which nothing reads unless a test does. */
export const BIG_SIZE = 24 * CHUNK + 777;
/** Small files below /data/small, named 0000 and so on. */
export const SMALL_FILES = 300;

const APPLETS = [
  ...[
    'sh',
    'cat',
    'ls',
    'echo',
    'sleep',
    'find',
    'stat',
    'chmod',
    'chown',
    'mv',
    'rm',
    'cp',
    'mkdir',
    'touch',
    'dd',
    'tar',
    'true',
  ],
  ...[
    'sha256sum',
    'ln',
    'test',
    'seq',
    'head',
    'tail',
    'wc',
    'sync',
    'id',
    'ps',
    'kill',
    'date',
    'env',
    'du',
    'od',
    'xargs',
    'sort',
  ],
];

/** What /data/small/NNNN holds. */
export const smallContent = (number: number): string => `small file ${number}\n`.repeat(1 + (number % 40));
/** What /data/big holds. */
export const bigContent = (): Buffer => noise(BIG_SIZE, 7);
const name = (number: number): string => String(number).padStart(4, '0');

const busybox = (): Buffer[] => [
  directory('bin/'),
  file('bin/busybox', readFileSync(program('busybox')), { mode: 0o4755 }),
  ...APPLETS.map((applet) => hardLink(`bin/${applet}`, 'bin/busybox', { mode: 0o4755 })),
];

/** A layer that lets an image run commands. */
export const BUSYBOX_LAYER = (): Buffer => archive(...busybox());

/** The image that most end-to-end tests use: busybox and a few hundred files, three layers, a configuration with a bit of everything. */
export function quickImage(marker = 'quick'): ImageDescription {
  const numbers = Array.from({ length: SMALL_FILES }, (_, number) => number);
  const base = archive(
    ...['./', 'etc/', 'proc/', 'sys/', 'dev/', 'var/', 'root/'].map((path) => directory(path)),
    directory('tmp/', { mode: 0o1777 }),
    directory('var/volume/'),
    ...busybox(),
    file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n'),
    file('etc/group', 'root:x:0:\nuser:x:1000:\n'),
    file('etc/marker', 'lower\n'),
    file('etc/removed', 'a later layer deletes this\n'),
  );
  const data = archive(
    directory('data/'),
    directory('data/small/', { uid: 1000, gid: 1000 }),
    ...numbers.map((number) =>
      file(`data/small/${name(number)}`, smallContent(number), { mode: 0o600 + (number % 0o177), uid: number }),
    ),
    file('data/big', bigContent(), { mode: 0o640, uid: 1000, gid: 1000 }),
    file('data/empty', ''),
    hardLink('data/big-again', 'data/big', { mode: 0o640, uid: 1000, gid: 1000 }),
    symlink('data/link', 'small/0001'),
    directory('data/tree/'),
    ...['one', 'two', 'three'].map((top) => directory(`data/tree/${top}/`, { mode: 0o750 })),
    ...['one', 'two', 'three'].map((top) => file(`data/tree/${top}/leaf`, `leaf of ${top}\n`)),
  );
  const top = archive(
    directory('etc/'),
    file('etc/.wh.removed', ''),
    file('etc/marker', `${marker}\n`),
    directory('data/tree/two/', { mode: 0o700 }),
    file('data/tree/two/.wh..wh..opq', ''),
    file('data/tree/two/new', 'the only one here\n'),
  );
  return {
    layers: [{ tar: base }, { tar: data }, { tar: top }],
    top: { author: 'Somebody <somebody@example.org>' },
    config: {
      Env: ['PATH=/bin', 'GREETING=a=b=c', 'EMPTY='],
      Entrypoint: null,
      Cmd: ['/bin/sh'],
      WorkingDir: '/data',
      Labels: { 'org.example.one': 'two words', 'org.example.quote': '"\\' },
      ExposedPorts: { '80/tcp': {}, '53/udp': {} },
      Volumes: { '/var/volume': {} },
      StopSignal: 'SIGKILL',
    },
  };
}

/** Files of the image below, and their sizes: from a few bytes to a few chunks. */
export const LOAD_FILES = 1200;
const loadSize = (number: number): number => (number % 60 === 0 ? 5 * CHUNK + number : 1 + ((number * 7919) % 40_000));
const loadContent = (number: number): Buffer => noise(loadSize(number), number + 1000);

/** An image with enough content to keep readers busy while something goes wrong: /load/NNNN. */
export function loadImage(): ImageDescription {
  const numbers = Array.from({ length: LOAD_FILES }, (_, number) => number);
  const files = numbers.map((number) => file(`load/${name(number)}`, loadContent(number)));
  return {
    layers: [{ tar: BUSYBOX_LAYER() }, { tar: archive(directory('load/'), ...files) }],
    config: { Env: ['PATH=/bin'], Cmd: ['/bin/sh'] },
  };
}

/** The line that sha256sum prints for each file of the load image. */
export function loadSums(): string[] {
  return Array.from({ length: LOAD_FILES }, (_, number) => {
    return `${createHash('sha256').update(loadContent(number)).digest('hex')}  /load/${name(number)}`;
  });
}

/** Writes an image as an OCI layout for a moment, and copies it to "docker://HOST/NAME:TAG". Gives what was written (its folder is gone). */
export async function pushImage(image: ImageDescription, destination: string): Promise<WrittenImage> {
  await using folder = await temporaryFolder();
  const written = await writeOciLayout(join(folder.path, 'layout'), image);
  await copyImage(written.reference, destination, { preserveDigests: true });
  return written;
}
