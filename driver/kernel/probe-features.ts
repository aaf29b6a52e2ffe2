import { chmod, link, lstat, mkdir, open, readFile, rename, stat, truncate, unlink, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { digestOf, objectPath } from '#core/digest.ts';
import { orUndefined } from '#core/errors.ts';
import { emptyDirectory, type RegularFile, type Tree } from '#core/index/tree.ts';
import { tellsTypes } from './directory-types.ts';
import { writeIndexImage } from './erofs/index-image.ts';
import { type ErofsMethod, mountIndexImage } from './erofs/mount-index.ts';
import { METACOPY, REDIRECT, redirectTo } from './index-xattrs.ts';
import { type MountMethod, mountOverlay } from './overlay.ts';
import { lgetxattr, lsetxattr } from './xattr.ts';

const CONTENT = Buffer.from('what the object holds');
const DIGEST = digestOf(CONTENT);

/** The folders of an overlay in a scratch folder, one lower file and one lower directory. */
async function overlayFolders(scratch: string) {
  const at = (name: string) => join(scratch, name);
  for (const name of ['lower', 'data', 'upper', 'work', 'merged']) await mkdir(at(name));
  await mkdir(at('lower/folder'));
  await writeFile(at('lower/file'), 'lower');
  return { lower: at('lower'), data: at('data'), upper: at('upper'), work: at('work'), merged: at('merged'), at };
}

function expect(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

async function overlay(scratch: string): Promise<string> {
  const { lower, upper, work, merged, at } = await overlayFolders(scratch);
  const method = await mountOverlay(merged, { lower: [lower], upper, work });
  expect((await readFile(at('merged/file'), 'utf8')) === 'lower', 'a file of the lower directory reads wrong');
  await writeFile(at('merged/file'), 'upper');
  expect((await readFile(at('upper/file'), 'utf8')) === 'upper', 'a write did not reach the upper directory');
  await unlink(at('merged/file'));
  expect((await lstat(at('upper/file'))).isCharacterDevice(), 'deleting a lower file left no whiteout');
  return `mounted by ${method}`;
}

async function metacopy(scratch: string): Promise<string> {
  const { lower, upper, work, merged, at } = await overlayFolders(scratch);
  await mountOverlay(merged, { lower: [lower], upper, work, metacopy: true });
  await chmod(at('merged/file'), 0o600);
  expect(lgetxattr(at('upper/file'), METACOPY) !== undefined, 'chmod copied the contents');
  await rename(at('merged/folder'), at('merged/renamed'));
  return 'chmod copies metadata only, directories can be renamed';
}

async function dataLayers(scratch: string, method?: MountMethod): Promise<string> {
  const { lower, data, upper, work, merged, at } = await overlayFolders(scratch);
  await truncate(at('lower/file'), CONTENT.length);
  lsetxattr(at('lower/file'), METACOPY, Buffer.alloc(0));
  lsetxattr(at('lower/file'), REDIRECT, Buffer.from(redirectTo(DIGEST)));
  const used = await mountOverlay(
    merged,
    { lower: [lower], data: [data], upper, work },
    method === undefined ? {} : { method },
  );
  // Objects come while the mount is up.
  await placeObject(data);
  expect((await readFile(at('merged/file'))).equals(CONTENT), 'a redirected file reads wrong');
  return `mounted by ${used}`;
}

async function placeObject(data: string): Promise<void> {
  const path = join(data, objectPath(DIGEST));
  await mkdir(join(path, '..'));
  await writeFile(path, CONTENT);
}

async function erofs(scratch: string, method: ErofsMethod): Promise<string> {
  const root = emptyDirectory();
  const file: RegularFile = {
    ...{ type: 'file', mode: 0o4711, uid: 12, gid: 100_000, mtimeSeconds: -1, mtimeNanoseconds: 7, xattrs: new Map() },
    ...{ size: CONTENT.length, digest: DIGEST, chunkDigests: Buffer.alloc(0) },
  };
  root.children.set('file', file);
  const tree: Tree = { kind: 'image', chunkSize: 131_072, root };
  const { upper, work, merged, data, at } = await overlayFolders(scratch);
  await writeIndexImage(tree, at('image'));
  await mkdir(at('index'));
  await mountIndexImage(at('image'), at('index'), { method });
  const status = await stat(at('index/file'), { bigint: true });
  const seen = [status.mode & 0o7777n, status.gid, status.size, status.mtimeNs];
  const wanted = [0o4711n, 100_000n, BigInt(CONTENT.length), -999_999_993n];
  expect(seen.join() === wanted.join(), `a file in the image looks wrong: ${seen.join()}, not ${wanted.join()}`);
  await placeObject(data);
  await mountOverlay(merged, { lower: [at('index')], data: [data], upper, work });
  expect((await readFile(at('merged/file'))).equals(CONTENT), 'a file reads wrong through overlay over the image');
  return method === 'file' ? 'mounted without a loop device' : 'mounted through a loop device';
}

async function fuseDevice(): Promise<string> {
  await using _ = await open('/dev/fuse', 'r+');
  return '/dev/fuse opens';
}

/** The kernel's build configuration as text, where it can be had. */
async function kernelConfiguration(): Promise<string | undefined> {
  const packed = await orUndefined(readFile('/proc/config.gz'), 'ENOENT', 'EACCES');
  if (packed !== undefined) return gunzipSync(packed).toString();
  return await orUndefined(readFile(`/boot/config-${release()}`, 'utf8'), 'ENOENT', 'EACCES');
}

// A mount with passthrough needs a FUSE server; the object filesystem finds out for sure when it starts.
async function fusePassthrough(): Promise<string> {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  expect(major > 6 || (major === 6 && minor >= 9), `kernel ${release()}; 6.9 is needed`);
  const configuration = await kernelConfiguration();
  if (configuration === undefined) return 'by the version of the kernel; its configuration is not readable';
  expect(/^CONFIG_FUSE_PASSTHROUGH=y$/m.test(configuration), 'the kernel is built without CONFIG_FUSE_PASSTHROUGH');
  return 'CONFIG_FUSE_PASSTHROUGH is set';
}

async function xattr(scratch: string, name: string): Promise<string> {
  const file = join(scratch, 'file');
  const value = Buffer.from([0, 255, 10]);
  await writeFile(file, '');
  lsetxattr(file, name, value);
  expect(lgetxattr(file, name)?.equals(value) === true, `the value of ${name} came back changed`);
  return `${name} is kept`;
}

async function hardLinks(scratch: string): Promise<string> {
  await writeFile(join(scratch, 'one'), '');
  await link(join(scratch, 'one'), join(scratch, 'two'));
  expect((await stat(join(scratch, 'two'))).nlink === 2, 'the link count is not 2');
  return 'counted';
}

async function directoryTypes(scratch: string): Promise<string> {
  await writeFile(join(scratch, 'file'), '');
  expect(tellsTypes(scratch), 'directories do not tell the type of what is in them');
  return 'told';
}

/** What is tried, by name; each takes an empty folder on the root filesystem, and throws where it does not work. */
export const PROBES = {
  overlay,
  metacopy,
  'data-layers': (scratch: string) => dataLayers(scratch),
  'fsconfig-layers': (scratch: string) => dataLayers(scratch, 'fsconfig'),
  'erofs-file': (scratch: string) => erofs(scratch, 'file'),
  'erofs-loop': (scratch: string) => erofs(scratch, 'loop'),
  fuse: fuseDevice,
  'fuse-passthrough': fusePassthrough,
  'trusted-xattrs': (scratch: string) => xattr(scratch, 'trusted.gear.probe'),
  'user-xattrs': (scratch: string) => xattr(scratch, 'user.gear.probe'),
  'hard-links': hardLinks,
  'directory-types': directoryTypes,
} as const satisfies Record<string, (scratch: string) => Promise<string>>;
export type ProbeName = keyof typeof PROBES;
