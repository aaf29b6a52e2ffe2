import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, it } from 'vitest';
import { spreadFoldersIn } from './spread.ts';
import { temporaryStore } from './testing.ts';

it('marks the folder of temporary files for ext4, and is refused by no other filesystem', async () => {
  await using store = await temporaryStore();
  const { tmp } = store.layout;
  const { stdout: type } = await execa('stat', ['--file-system', '--format=%T', tmp]);
  const { stdout: flags } = await execa('lsattr', ['-d', tmp], { reject: false });
  if (type === 'ext2/ext3') expect(flags?.split(' ')[0]).toContain('T');
  const folder = join(tmp, 'other');
  mkdirSync(folder);
  spreadFoldersIn(folder);
  expect(() => spreadFoldersIn('/proc/self')).not.toThrow();
});
