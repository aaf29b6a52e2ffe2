import type { ImageDescription, ImageLayer } from '../../deploy/sandbox/oci-layout.ts';
import { BUSYBOX_LAYER, CHUNK } from './quick.ts';
import {
  archive,
  directory,
  entry,
  file,
  gnuLong,
  hardLink,
  MTIME,
  noise,
  pax,
  symlink,
  whiteout,
  withPax,
} from './tar-bytes.ts';

const long = (length: number, letter = 'n'): string => letter.repeat(length);
const xattr = (name: string, value: Buffer | string) => [`SCHILY.xattr.${name}`, value] as const;
/** cap_net_raw+ep, version 2: binary, and no UTF-8. */
const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex');
const BINARY = Buffer.from('010000 80ff0ac33d00'.replaceAll(' ', ''), 'hex');

/** Names: odd bytes, long ones, every way to write them. */
function names(): Buffer[] {
  const deep = Array.from({ length: 40 }, (_, at) => `level-${at}`).join('/');
  const deepFolders = Array.from({ length: 40 }, (_, at) =>
    deep
      .split('/')
      .slice(0, at + 1)
      .join('/'),
  );
  return [
    directory('names/'),
    file('names/with\nnewline', 'newline'),
    file('names/tab\tand space', 'tab'),
    file('names/back\\slash "quote" \'single\'', 'quotes'),
    file('names/not-utf8-\xff\xfe\x80', 'invalid utf-8'),
    file('names/utf8-\xc3\xa9', 'utf-8'),
    file('names/-rf', 'dash'),
    file('names/...', 'three dots'),
    file('names/%2e%2e', 'percent'),
    file('names/.whole', 'no whiteout, though it starts like one'),
    file('names/:colon,comma', 'characters that mount options split at'),
    withPax([['path', `names/${long(255)}`]], file0('name of 255 bytes')),
    gnuLong('L', `names/gnu-${long(200)}`),
    entry({ name: `names/gnu-${long(80)}`, format: 'gnu', content: 'GNU long name' }),
    entry({ name: `${long(90, 'q')}`, prefix: 'names', content: 'name in two header fields' }),
    directory('names/deep/'),
    ...deepFolders.map((path) => withPax([['path', `names/deep/${path}/`]], { name: 'x', type: '5', mode: 0o755 })),
    withPax([['path', `names/deep/${deep}/leaf`]], file0('40 folders down')),
    file('./names/dot-in-front', 'x'),
    file('names/./dot-inside', 'x'),
    file('names//two-slashes', 'x'),
    file('/names/absolute', 'x'),
  ];
}

const file0 = (content: string) => ({ name: 'x', content });

/** Link targets, hard links. */
function links(): Buffer[] {
  return [
    directory('links/'),
    symlink('links/absolute', '/etc/passwd'),
    symlink('links/out', '../../../../../../etc/passwd'),
    symlink('links/dangling', 'nowhere/at/all'),
    symlink('links/self', 'self'),
    symlink('links/not-utf8', 'target-\xff\xfe'),
    withPax([['linkpath', `long/${long(250, 't')}`]], { name: 'links/long-pax', type: '2', mode: 0o777, link: 'x' }),
    gnuLong('K', Array.from({ length: 30 }, () => 'component-of-target').join('/')),
    entry({ name: 'links/long-gnu', type: '2', mode: 0o777, format: 'gnu', link: 'x' }),
    file('links/first', 'three names of one inode', { mode: 0o4711, uid: 7, gid: 8 }),
    // Docker gives the inode what the link's own entry says, so that says the same.
    hardLink('links/second', 'links/first', { mode: 0o4711, uid: 7, gid: 8 }),
    hardLink('links/third', './links/first', { mode: 0o4711, uid: 7, gid: 8 }),
    hardLink('links/symlink-again', 'links/absolute'),
  ];
}

/** Modes, owners, times, devices. */
function metadata(): Buffer[] {
  return [
    directory('meta/', { mode: 0o2775, uid: 100, gid: 200 }),
    directory('meta/sticky/', { mode: 0o1777 }),
    directory('meta/closed/', { mode: 0o000, uid: 1 }),
    file('meta/closed/inside', 'behind a folder without any permission'),
    file('meta/none', 'mode 0000', { mode: 0 }),
    file('meta/all', 'mode 7777', { mode: 0o7777 }),
    file('meta/setuid', 'setuid of another', { mode: 0o4755, uid: 1234, gid: 5678 }),
    file('meta/setgid', 'setgid of another', { mode: 0o2711, uid: 1234, gid: 5678 }),
    file('meta/big-ids', 'ids above 65535', { uid: 70_000, gid: 16_777_215 }),
    file('meta/base256-ids', 'ids that need base-256', { uid: 2_500_000_000, gid: 4_000_000_000 }),
    withPax(
      [
        ['uid', '3000000000'],
        ['gid', '99999'],
      ],
      { name: 'meta/pax-ids', content: 'ids in a PAX header' },
    ),
    file('meta/epoch', 'time 0', { mtime: 0 }),
    file('meta/future', 'after 2038', { mtime: 5_000_000_000 }),
    withPax([['mtime', '1234567890.123456789']], { name: 'meta/nanoseconds', content: 'fine time' }),
    withPax([['mtime', '1234567890.5']], { name: 'meta/half-second', type: '5', mode: 0o755 }),
    symlink('meta/link-of-another', 'none', { uid: 33, gid: 34, mtime: MTIME + 5 }),
    entry({ name: 'meta/null', type: '3', mode: 0o666, major: 1, minor: 3 }),
    entry({ name: 'meta/big-minor', type: '3', mode: 0o600, major: 250, minor: 70_000, uid: 3 }),
    entry({ name: 'meta/disk', type: '4', mode: 0o660, major: 7, minor: 200, gid: 6 }),
    entry({ name: 'meta/fifo', type: '6', mode: 0o622, uid: 5 }),
    file('meta/v7', 'a header from before ustar', { format: 'v7' }),
    file('meta/old-regular', 'typeflag NUL', { type: '\0' }),
  ];
}

/** What lies beside the files that an engine puts into /etc, which the next layer changes. */
function settings(): Buffer[] {
  return [
    directory('etc/', { mode: 0o751, gid: 9 }),
    file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n'),
    file('etc/shadow', 'root:*:19000:0:99999:7:::\n', { mode: 0o640, gid: 42 }),
    file('etc/removed', 'goes away'),
    directory('etc/alternatives/', { mode: 0o700 }),
    symlink('etc/alternatives/awk', '/usr/bin/mawk'),
  ];
}

const settingsAgain = (): Buffer[] => [
  directory('etc/', { mode: 0o751, gid: 9 }),
  file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n', { mode: 0o604 }),
  whiteout('etc', 'removed'),
];

/** xattrs: binary, empty, long, on folders; file capabilities. */
function xattrs(): Buffer[] {
  return [
    withPax([xattr('user.on-a-folder', 'yes')], { name: 'xattrs/', type: '5', mode: 0o755 }),
    withPax([xattr('user.text', 'value')], { name: 'xattrs/text', content: 'x' }),
    withPax([xattr('user.binary', BINARY)], { name: 'xattrs/binary', content: 'x' }),
    withPax([xattr('user.equals', 'a=b=c'), xattr('user.newline', 'a\nb\n')], {
      name: 'xattrs/punctuation',
      content: 'x',
    }),
    withPax([xattr('user.long', noise(2000, 3))], { name: 'xattrs/long', content: 'x' }),
    withPax([xattr('security.capability', CAPABILITY)], {
      name: 'xattrs/capability',
      mode: 0o755,
      uid: 5,
      content: 'x',
    }),
    withPax([xattr('trusted.note', 'of root')], { name: 'xattrs/trusted', content: 'x' }),
    withPax(
      Array.from({ length: 20 }, (_, at) => xattr(`user.number-${at}`, String(at))),
      { name: 'xattrs/twenty', content: 'x' },
    ),
  ];
}

/** Contents: sizes around a chunk, the same bytes under other metadata, a sparse file. */
function contents(): Buffer[] {
  const shared = noise(5000, 11);
  // GNU's PAX sparse format 1.0: the map stands before the data. Real size 300,000; 4 bytes at 0 and 5 at 200,000.
  const map = Buffer.alloc(512);
  map.write('2\n0\n4\n200000\n5\n', 'latin1');
  const sparse = Buffer.concat([map, Buffer.from('headtail!')]);
  return [
    directory('data/'),
    file('data/empty', ''),
    file('data/one-byte', 'x'),
    file('data/chunk-minus-1', noise(CHUNK - 1, 1)),
    file('data/chunk', noise(CHUNK, 2)),
    file('data/chunk-plus-1', noise(CHUNK + 1, 3)),
    file('data/five-chunks', noise(5 * CHUNK + 4095, 4)),
    file('data/zeros', Buffer.alloc(3 * CHUNK)),
    file('data/shared-1', shared, { mode: 0o600, uid: 1 }),
    file('data/shared-2', shared, { mode: 0o4755, uid: 2, mtime: MTIME + 100 }),
    withPax(
      [
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.name', 'data/sparse'],
        ['GNU.sparse.realsize', '300000'],
      ],
      { name: 'GNUSparseFile.0/sparse', content: sparse },
    ),
  ];
}

const many = (): Buffer[] => [
  directory('many/'),
  ...Array.from({ length: 1500 }, (_, at) =>
    file(`many/entry-${at}-${long(at % 60)}`, at % 3 === 0 ? `content ${at}` : ''),
  ),
];

/** What the second layer changes: every kind of replacement, and whiteouts in every order that Docker takes. */
function below(): Buffer[] {
  return [
    directory('change/'),
    file('change/file-to-folder', 'was a file'),
    directory('change/folder-to-file/'),
    file('change/folder-to-file/inside', 'goes away'),
    directory('change/folder-to-symlink/'),
    file('change/folder-to-symlink/inside', 'goes away'),
    symlink('change/symlink-to-folder', 'kept-folder'),
    symlink('change/symlink-to-file', 'kept-file'),
    entry({ name: 'change/fifo-to-file', type: '6' }),
    file('change/file-to-device', 'was a file'),
    file('change/kept-file', 'kept'),
    directory('change/kept-folder/', { mode: 0o700, uid: 9 }),
    file('change/kept-folder/kept', 'kept'),
    directory('change/metadata-only/', { mode: 0o700 }),
    file('change/metadata-only/kept', 'still here'),
    file('change/hard-1', 'one of two names'),
    hardLink('change/hard-2', 'change/hard-1'),
    directory('white/'),
    file('white/removed', 'goes away'),
    directory('white/removed-folder/'),
    file('white/removed-folder/inside', 'goes away'),
    file('white/replaced', 'old'),
    directory('white/opaque-first/'),
    file('white/opaque-first/old', 'goes away'),
    directory('white/opaque-last/'),
    file('white/opaque-last/old', 'goes away'),
    directory('white/opaque-last/old-folder/'),
    file('white/opaque-last/old-folder/deep', 'goes away'),
    directory('white/back/'),
    file('white/back/first', 'goes and comes back'),
  ];
}

function changes(): Buffer[] {
  return [
    directory('change/', { mtime: MTIME + 10 }),
    directory('change/file-to-folder/'),
    file('change/file-to-folder/new', 'inside what was a file'),
    file('change/folder-to-file', 'was a folder'),
    symlink('change/folder-to-symlink', 'kept-folder'),
    directory('change/symlink-to-folder/'),
    file('change/symlink-to-folder/new', 'not in kept-folder'),
    file('change/symlink-to-file', 'not in kept-file'),
    file('change/fifo-to-file', 'was a fifo'),
    entry({ name: 'change/file-to-device', type: '3', major: 1, minor: 5, mode: 0o600 }),
    directory('change/metadata-only/', { mode: 0o2711, uid: 77, gid: 78, mtime: MTIME + 20 }),
    file('change/hard-1', 'no longer the inode of hard-2'),
    directory('white/', { mtime: MTIME + 30 }),
    whiteout('white', 'removed'),
    whiteout('white', 'removed-folder'),
    whiteout('white', 'was-never-there'),
    whiteout('white', 'replaced'),
    file('white/replaced', 'new'),
    directory('white/opaque-first/'),
    whiteout('white/opaque-first', '.wh..opq'),
    file('white/opaque-first/new', 'the only one'),
    directory('white/opaque-last/'),
    file('white/opaque-last/new', 'the only one'),
    whiteout('white/opaque-last', '.wh..opq'),
    directory('white/back/'),
    whiteout('white/back', 'first'),
  ];
}

/**
 * The image with everything that Docker 20.10 (overlay2), umoci and Gear must show alike: odd names, modes, owners, times, xattrs, links, devices, contents,
 * changes of type and whiteouts over three layers.
 */
export function hostileImage(): ImageDescription {
  const root = directory('./');
  const layers: ImageLayer[] = [
    { tar: archive(root, ...names(), ...links(), ...metadata(), ...settings(), ...below()), compression: 'gzip' },
    { tar: archive(...xattrs(), ...contents(), ...many(), ...settingsAgain(), ...changes()), compression: 'gzip' },
    {
      tar: archive(
        directory('white/', { mtime: MTIME + 30 }),
        directory('white/back/'),
        file('white/back/first', 'came back'),
        directory('change/', { mtime: MTIME + 10 }),
        directory('change/kept-folder/', { mode: 0o750, uid: 10 }),
      ),
      compression: 'none',
    },
    { tar: BUSYBOX_LAYER() },
  ];
  return { layers, config: { Cmd: ['/bin/sleep', '1000'] } };
}

/**
 * What Docker 20.10 cannot apply, or applies by luck: implied parents, links into lower layers and to names that follow, whiteouts after the entry, times before
 * 1970, old GNU sparse files, orders to overlayfs in xattrs. With what each path must be.
 */
export function strangeLayers(): ImageLayer[] {
  const sparseHeader = Buffer.alloc(96);
  // tar.h, struct oldgnu_header: offset and size of each piece, twelve octal digits each.
  sparseHeader.write('00000000000\x0000000000004\0', 0, 'latin1');
  sparseHeader.write('00000010000\x0000000000005\0', 24, 'latin1');
  const realSize = Buffer.from('00000020000\0', 'latin1');
  const redirect = [
    xattr('trusted.overlay.redirect', '/secret'),
    xattr('trusted.overlay.metacopy', ''),
    xattr('trusted.overlay.opaque', 'y'),
    xattr('user.overlay.redirect', '/secret'),
    xattr('user.kept', 'yes'),
  ];
  const first = archive(
    pax([['comment', 'for everything that follows']], { global: true }),
    file('secret', 'the bytes of another file'),
    file('twice', 'the first of two entries', { mode: 0o600 }),
    file('twice', 'the second wins', { mode: 0o644 }),
    file('implied/parents/of/this', 'no entry names its folders'),
    hardLink('links/before', 'links/target'),
    file('links/target', 'its other name came first', { mode: 0o640, uid: 3 }),
    file('links/lower', 'a later layer links to this', { mode: 0o604, gid: 4 }),
    withPax([['mtime', '-12345.25']], { name: 'before-1970', content: 'x' }),
    directory('aufs/'),
    directory('.wh..wh.plnk/'),
    file('.wh..wh.plnk/123.456', 'internal to aufs'),
    file('.wh..wh.aufs', 'internal to aufs'),
    directory('same/'),
    file('same/in-lower', 'lower'),
    withPax(redirect, { name: 'ordered-file', content: 'its own bytes' }),
    withPax(redirect, { name: 'ordered-folder/', type: '5', mode: 0o755 }),
    file('ordered-folder/child', 'visible'),
    entry({
      name: 'old-sparse',
      type: 'S',
      format: 'gnu',
      content: 'headtail!',
      raw: [
        [386, sparseHeader],
        [483, realSize],
      ],
    }),
  );
  const second = archive(
    directory('links/'),
    hardLink('links/upper', 'links/lower'),
    file('same/after', 'the same layer has the name and, later, its whiteout'),
    whiteout('same', 'after'),
    whiteout('same', 'in-lower'),
    file('same/in-lower', 'upper'),
  );
  return [{ tar: first }, { tar: second }, { tar: BUSYBOX_LAYER() }];
}
