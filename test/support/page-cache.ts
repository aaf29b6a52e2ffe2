import { writeFile } from 'node:fs/promises';
import { execa } from 'execa';

/** Writes back what is dirty and empties the kernel's page, dentry and inode caches: the next read is cold. Needs root. */
export async function dropPageCache(): Promise<void> {
  await execa('sync');
  await writeFile('/proc/sys/vm/drop_caches', '3');
}
