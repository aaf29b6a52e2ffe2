import { describe, expect, it } from 'vitest';
import { emptyDirectory, type Inode, type Tree } from '#core/index/tree.ts';
import { formatFile, formatMode, listFiles, printable } from './file-list.ts';

describe('printable', () => {
  it.each([
    ['plain', 'plain'],
    [Buffer.from('größe').toString('latin1'), 'größe'],
    ['a\nb', 'a\\x0ab'],
    ['\u001b[31m', '\\x1b[31m'],
    ['back\\slash', 'back\\\\slash'],
    ['\u00ff\u00fea b', '\\xff\\xfea b'],
    [Buffer.from('\u202e').toString('latin1'), '\\xe2\\x80\\xae'],
  ])('shows %j as %s', (bytes, text) => {
    expect(printable(bytes)).toBe(text);
  });
});

describe('formatMode', () => {
  it.each([
    [0o755, 'rwxr-xr-x'],
    [0o4755, 'rwsr-xr-x'],
    [0o4644, 'rwSr--r--'],
    [0o2755, 'rwxr-sr-x'],
    [0o1777, 'rwxrwxrwt'],
    [0o1666, 'rw-rw-rwT'],
    [0, '---------'],
  ])('%i', (mode, text) => {
    expect(formatMode(mode)).toBe(text);
  });
});

describe('a list of files', () => {
  it('has every type', () => {
    const { children: _, opaque: __, type: ___, ...metadata } = emptyDirectory(0o1777);
    const inodes: Record<string, Inode> = {
      device: { ...metadata, type: 'character-device', major: 5, minor: 1 },
      fifo: { ...metadata, type: 'fifo' },
      gone: { type: 'whiteout' },
      link: { ...metadata, type: 'symlink', target: 'to\n' },
      late: { ...metadata, type: 'fifo', mtimeSeconds: 2 ** 50 },
    };
    const root = emptyDirectory();
    for (const [name, inode] of Object.entries(inodes)) root.children.set(name, inode);
    const tree: Tree = { kind: 'layer', chunkSize: 4096, root };
    const lines = [...listFiles(tree)].map(formatFile);
    expect(lines.map((line) => line[0])).toEqual(['c', 'p', 'w', 'p', 'l']);
    expect(lines[0]).toMatch(/^crwxrwxrwt +0:0 +5:1 +1970-01-01 00:00:00 +- +\/device$/);
    expect(lines[3]).toContain(`@${2 ** 50}`);
    expect(lines[4]).toMatch(/\/link -> to\\x0a$/);
  });
});
