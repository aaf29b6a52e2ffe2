import { execFileSync } from 'node:child_process';
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pack } from 'tar-stream';
import { describe, expect, it, onTestFinished } from 'vitest';
import { pieces, readAll } from '../../test/support/tar-read.ts';
import { readTar } from './reader.ts';
import { writeTar } from './writer.ts';

async function folder(): Promise<string> {
  const path = await mkdtemp('/tmp/gear-tar-');
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** A folder with what each format can hold, and its names as GNU tar lists them. */
function fill(root: string, { long }: { long: boolean }): void {
  mkdirSync(join(root, 'd/sub'), { recursive: true, mode: 0o750 });
  writeFileSync(join(root, 'd/file'), 'content');
  writeFileSync(join(root, 'd/empty'), '');
  linkSync(join(root, 'd/file'), join(root, 'd/hard'));
  symlinkSync('../d/file', join(root, 'd/sub/symlink'));
  utimesSync(join(root, 'd/file'), 1_000_000_000, 1_000_000_000);
  if (!long) return;
  const name = 'l'.repeat(200);
  writeFileSync(join(root, name), 'long');
  symlinkSync('t'.repeat(300), join(root, 'long-link'));
  const sparse = openSync(join(root, 'sparse'), 'w');
  for (let at = 0; at < 30; at++) writeSync(sparse, 'data', at * 20_000 + 10_000);
  closeSync(sparse);
  truncateSync(join(root, 'sparse'), 700_000);
}

const tar = (...args: string[]): Buffer => execFileSync('tar', args, { maxBuffer: 2 ** 28, encoding: 'buffer' });

describe('tars made by GNU tar', () => {
  it.each([
    ['v7', false, []],
    ['ustar', false, []],
    ['oldgnu', true, ['--sparse']],
    ['gnu', true, ['--sparse']],
    ['gnu', true, []],
    ['pax', true, ['--sparse', '--sparse-version=0.0']],
    ['pax', true, ['--sparse', '--sparse-version=0.1']],
    ['pax', true, ['--sparse', '--sparse-version=1.0']],
    ['pax', true, []],
  ] as const)('are read: %s, long names %s, %j', async (format, long, options) => {
    const root = await folder();
    fill(root, { long });
    const bytes = tar('-c', '-C', root, `--format=${format}`, ...options, '--sort=name', '.');
    const read = await readAll(bytes, { size: 5000 });
    const names = execFileSync('tar', ['-t'], { input: bytes, encoding: 'latin1' }).trim().split('\n');
    expect(read.map(({ path }) => path)).toEqual(names);
    const byPath = new Map(read.map((entry) => [entry.path.replace(/^\.\//, ''), entry]));
    expect(byPath.get('d/file')).toMatchObject({
      type: 'file',
      body: Buffer.from('content'),
      mtimeSeconds: 1_000_000_000,
    });
    expect(byPath.get('d/hard')).toMatchObject({ type: 'hard-link', link: './d/file', size: 0 });
    expect(byPath.get('d/sub/symlink')).toMatchObject({ type: 'symlink', link: '../d/file' });
    expect(byPath.get('d/sub/')).toMatchObject({ type: 'directory' });
    if (!long) return;
    expect(byPath.get('long-link')?.link).toBe('t'.repeat(300));
    const sparse = byPath.get('sparse');
    expect(sparse?.size).toBe(700_000);
    expect(sparse?.body.equals(readFileSync(join(root, 'sparse')))).toBe(true);
    if (options.length > 0) expect(bytes.length).toBeLessThan(400_000);
  });

  it('are the same after our own writing', async () => {
    const root = await folder();
    fill(root, { long: true });
    const bytes = tar('-c', '-C', root, '--format=pax', '--sort=name', '.');
    async function* entries() {
      for await (const { content, ...header } of readTar(pieces(bytes))) yield { header, content };
    }
    const again = Buffer.concat(await Array.fromAsync(writeTar(entries())));
    expect(await readAll(again)).toEqual(await readAll(bytes));
    const list = (input: Buffer) =>
      execFileSync('tar', ['-tv', '--full-time', '--numeric-owner'], { input, encoding: 'latin1' });
    expect(list(again)).toBe(list(bytes));
  });
});

it('exchanges binary attributes with GNU tar', async () => {
  const root = await folder();
  const xattrs = new Map([
    ['user.binary', Buffer.from('0100000280ff0a3dc3', 'hex')],
    ['user.a=b%', Buffer.from('odd name')],
  ]);
  async function* entries() {
    const none = { uid: 0, gid: 0, mtimeSeconds: 5, mtimeNanoseconds: 0, size: 0, link: '', major: 0, minor: 0 };
    yield { header: { ...none, path: 'f', type: 'file' as const, mode: 0o644, xattrs } };
  }
  const written = Buffer.concat(await Array.fromAsync(writeTar(entries())));
  execFileSync('tar', ['-x', '--xattrs', '--no-same-owner', '-C', root], { input: written });
  const [again] = await readAll(tar('-c', '--xattrs', '--format=pax', '-C', root, 'f'));
  expect(again?.xattrs).toEqual(xattrs);
});

it('reads what tar-stream writes', async () => {
  const packer = pack();
  packer.entry({ name: 'd', type: 'directory', mode: 0o700 });
  packer.entry({ name: 'f', mode: 0o640, uid: 5, gid: 6, mtime: new Date(1_600_000_000_000) }, 'text');
  packer.entry({ name: `${'é'.repeat(80)}`, pax: { 'SCHILY.xattr.user.a': 'b' } }, 'x');
  packer.entry({ name: 'l', type: 'symlink', linkname: 'f' });
  packer.entry({ name: 'h', type: 'link', linkname: 'f' });
  packer.finalize();
  const read = await readAll(Buffer.concat(await Array.fromAsync(packer as AsyncIterable<Buffer>)));
  expect(read.map(({ path, type }) => [Buffer.from(path, 'latin1').toString(), type])).toEqual([
    ['d', 'directory'],
    ['f', 'file'],
    ['é'.repeat(80), 'file'],
    ['l', 'symlink'],
    ['h', 'hard-link'],
  ]);
  expect(read[1]).toMatchObject({
    mode: 0o640,
    uid: 5,
    gid: 6,
    mtimeSeconds: 1_600_000_000,
    body: Buffer.from('text'),
  });
  expect(read[2]?.xattrs).toEqual(new Map([['user.a', Buffer.from('b')]]));
});
