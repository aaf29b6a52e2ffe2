import { closeSync, lstatSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { backingOpen } from '../../driver/kernel/backing.ts';
import { mkfifo, mknod, setTimes, splitDeviceNumber, syncfs } from '../../driver/kernel/inode.ts';
import { bindMount, mount, remountReadOnly, removeFolder, unmount, unmountTree } from '../../driver/kernel/mount.ts';
import { findMount, mountOf, mountsBelow } from '../../driver/kernel/mount-info.ts';
import { pidfdGetfd, pidfdOpen } from '../../driver/kernel/pidfd.ts';
import { bestIndexFormat, probeAll } from '../../driver/kernel/probe.ts';
import { lgetxattr, llistxattr, lremovexattr, lsetxattr, readXattrs } from '../../driver/kernel/xattr.ts';
import { temporaryFolder } from '../support/cleanup.ts';

const tmpfs = (target: string, ...options: string[]) => mount({ type: 'tmpfs', source: 'tmpfs', target, options });

describe('mounts', () => {
  it('are made, listed and taken away, also at a place whose name needs escapes', async () => {
    await using folder = await temporaryFolder();
    const target = join(folder.path, 'a b\\c\nd');
    await mkdir(target);
    await tmpfs(target, 'size=1m', 'nosuid', 'ro');
    expect(findMount(target)).toMatchObject({
      type: 'tmpfs',
      target,
      options: expect.arrayContaining(['ro', 'nosuid']),
    });
    expect(mountOf(join(target, 'x'))?.target).toBe(target);
    await unmount(target);
    expect(findMount(target)).toBeUndefined();
    await expect(unmount(target)).rejects.toMatchObject({ code: 'EINVAL', syscall: 'umount2', path: target });
  });

  it('of a bind are read-only in one go', async () => {
    await using folder = await temporaryFolder();
    const [from, to] = [join(folder.path, 'from'), join(folder.path, 'to')];
    await mkdir(from);
    await mkdir(to);
    await bindMount(from, to, { readOnly: true });
    await expect(writeFile(join(to, 'x'), '')).rejects.toMatchObject({ code: 'EROFS' });
    await writeFile(join(from, 'x'), 'seen');
    expect(await readFile(join(to, 'x'), 'utf8')).toBe('seen');
    await unmount(to);
    await bindMount(from, to);
    await writeFile(join(to, 'y'), '');
    await remountReadOnly(to);
    await expect(writeFile(join(to, 'z'), '')).rejects.toMatchObject({ code: 'EROFS' });
    await writeFile(join(from, 'z'), '');
  });

  it('are taken away as a tree, and nothing is deleted while one is there', async () => {
    await using folder = await temporaryFolder();
    const base = join(folder.path, 'base');
    await mkdir(base);
    await tmpfs(base);
    await mkdir(join(base, 'in'));
    await tmpfs(join(base, 'in'));
    await tmpfs(join(base, 'in'));
    await writeFile(join(base, 'in', 'kept'), '');
    expect(mountsBelow(base)).toHaveLength(3);
    await expect(removeFolder(folder.path)).rejects.toMatchObject({
      code: 'failed-precondition',
      message: expect.stringContaining(base),
    });
    expect(await readFile(join(base, 'in', 'kept'), 'utf8')).toBe('');
    expect(await unmountTree(base)).toBe(3);
    await removeFolder(base);
    await removeFolder(base);
    expect(() => statSync(base)).toThrow('ENOENT');
  });

  it('are found through links in the folders above', async () => {
    await using folder = await temporaryFolder();
    await mkdir(join(folder.path, 'real', 'm'), { recursive: true });
    await symlink('real', join(folder.path, 'link'));
    await tmpfs(join(folder.path, 'real', 'm'));
    const seen = join(folder.path, 'link', 'm');
    expect(findMount(seen)?.type).toBe('tmpfs');
    expect(mountOf(join(seen, 'x'))?.type).toBe('tmpfs');
    await expect(removeFolder(seen)).rejects.toMatchObject({ code: 'failed-precondition' });
    expect(await unmountTree(join(folder.path, 'link', 'm'))).toBe(1);
  });

  it('are not followed through a symlink when they are taken away, and refuse NUL bytes', async () => {
    await using folder = await temporaryFolder();
    const target = join(folder.path, 'm');
    await mkdir(target);
    await tmpfs(target);
    await symlink('m', join(folder.path, 'link'));
    await expect(unmount(join(folder.path, 'link'))).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(unmount(`${target}\0x`)).rejects.toMatchObject({ code: 'EINVAL' });
    expect(findMount(target)).toBeDefined();
  });

  it('that fail are reported as fs does, and leave nothing', async () => {
    await using folder = await temporaryFolder();
    const missing = join(folder.path, 'missing');
    await expect(tmpfs(missing)).rejects.toMatchObject({ code: 'ENOENT', errno: -2, syscall: 'mount', dest: missing });
    await expect(mount({ type: 'nosuchfs', source: 'x', target: folder.path, options: [] })).rejects.toMatchObject({
      code: 'ENODEV',
    });
    await expect(tmpfs(folder.path, `size=${'1'.repeat(5000)}`)).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(mountsBelow(folder.path)).toEqual([]);
  });
});

describe('inodes', () => {
  it('get xattrs as bytes, on symlinks themselves', async () => {
    await using folder = await temporaryFolder();
    const file = Buffer.concat([Buffer.from(`${folder.path}/`), Buffer.from([0xff, 0xfe])]);
    await writeFile(file, '');
    const link = join(folder.path, 'link');
    await symlink('nowhere', link);
    lsetxattr(file, 'user.\xc3', Buffer.from([0, 1, 255]));
    lsetxattr(file, 'user.empty', Buffer.alloc(0), 'create');
    lsetxattr(link, 'trusted.on-link', Buffer.from('x'));
    expect(lgetxattr(file, 'user.\xc3')).toEqual(Buffer.from([0, 1, 255]));
    expect(lgetxattr(file, 'user.none')).toBeUndefined();
    expect(llistxattr(file).sort()).toEqual(['user.empty', 'user.\xc3']);
    expect(readXattrs(link)).toEqual(new Map([['trusted.on-link', Buffer.from('x')]]));
    expect(() => lsetxattr(file, 'user.empty', Buffer.alloc(0), 'create')).toThrow('EEXIST');
    expect(() => lsetxattr(file, 'user.other', Buffer.alloc(0), 'replace')).toThrow('ENODATA');
    lremovexattr(file, 'user.empty');
    expect(() => lremovexattr(file, 'user.empty')).toThrow('ENODATA');
    expect(() => lgetxattr(join(folder.path, 'missing'), 'user.x')).toThrow('ENOENT');
    expect(llistxattr('/proc/self/status')).toEqual([]);
  });

  it('get times to the nanosecond, before 1970 too', async () => {
    await using folder = await temporaryFolder();
    const link = join(folder.path, 'link');
    await symlink('nowhere', link);
    setTimes(link, -5, 123_456_789);
    const { mtimeNs, atimeNs } = lstatSync(link, { bigint: true });
    expect([mtimeNs, atimeNs]).toEqual([-4_876_543_211n, -4_876_543_211n]);
  });

  it('are devices and pipes', async () => {
    await using folder = await temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    mknod(at('c'), 'character-device', 0o600, 4095, 0xfffff);
    mknod(at('b'), 'block-device', 0o600, 8, 1);
    mkfifo(at('f'), 0o600);
    expect(splitDeviceNumber(statSync(at('c')).rdev)).toEqual({ major: 4095, minor: 0xfffff });
    expect(splitDeviceNumber(statSync(at('b')).rdev)).toEqual({ major: 8, minor: 1 });
    expect(statSync(at('f')).isFIFO()).toBe(true);
    expect(() => mknod(at('x'), 'block-device', 0o600, 4096, 0)).toThrow('EINVAL');
    expect(() => mknod(at('c'), 'fifo', 0o600)).toThrow('EEXIST');
  });
});

describe('descriptors', () => {
  it('are taken over from another process', async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, 'file');
    await writeFile(path, 'content');
    const fd = openSync(path, 'r');
    const pidfd = pidfdOpen(process.pid);
    const copy = pidfdGetfd(pidfd, fd);
    closeSync(fd);
    expect(readFileSync(copy, 'utf8')).toBe('content');
    await syncfs(copy);
    expect(() => backingOpen(copy, copy)).toThrow(/ENOTTY|EINVAL/);
    for (const open of [pidfd, copy]) closeSync(open);
    expect(() => pidfdOpen(2 ** 22 + 1)).toThrow(/ESRCH|EINVAL/);
  });
});

describe('probes', () => {
  it('find what this kernel can do and leave nothing', async () => {
    await using folder = await temporaryFolder();
    const findings = await probeAll(folder.path);
    for (const name of ['overlay', 'metacopy', 'trusted-xattrs', 'hard-links', 'directory-types'] as const)
      expect(findings[name]).toMatchObject({ works: true });
    expect(mountsBelow(folder.path)).toEqual([]);
    expect(await bestIndexFormat(folder.path)).toBe(
      findings['erofs-file'].works || findings['erofs-loop'].works ? 'erofs' : 'directory',
    );
    expect(readdirSync(folder.path)).toEqual([]);
  });

  it('say why something does not work', async () => {
    await using folder = await temporaryFolder();
    // A filesystem without xattrs at all.
    await mkdir(join(folder.path, 'm'));
    await mount({ type: 'ramfs', source: 'ramfs', target: join(folder.path, 'm'), options: [] });
    const findings = await probeAll(join(folder.path, 'm'));
    expect(findings['user-xattrs']).toEqual({ works: false, detail: expect.stringMatching(/ENOTSUP.*lsetxattr/) });
  });
});
