import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';

/** A filesystem of its own (ext4 on a loop device) that is soon full. */
export interface SmallDisk extends AsyncDisposable {
  readonly path: string;
}

/** Makes and mounts one of this many megabytes. */
export async function smallDisk(megabytes: number): Promise<SmallDisk> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const [image, path] = [join(folder.path, 'image'), join(folder.path, 'disk')];
  await mkdir(path);
  await execa('truncate', [`--size=${megabytes}M`, image]);
  await execa('mkfs.ext4', ['-q', '-m', '0', '-N', '16384', image]);
  await execa('mount', ['-o', 'loop', image, path]);
  const owned = stack.move();
  return { path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Writes into a file until not a block is left. Delete the file to make room again. */
export async function fillDisk(ballast: string): Promise<void> {
  const fill = async (block: string) =>
    await execa('dd', ['if=/dev/zero', `of=${ballast}`, `bs=${block}`, 'oflag=append', 'conv=notrunc,fsync'], {
      reject: false,
    });
  for (const block of ['1M', '4k', '4k']) await fill(block);
}
