import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { program } from '../../deploy/sandbox/packages.ts';

/** Unpacks an image of an OCI layout with umoci, the reference that uses no filesystem tricks; gives the root filesystem's path. */
export async function umociUnpack(layout: string, tag: string, bundle: string): Promise<string> {
  await mkdir(dirname(bundle), { recursive: true });
  await execa(program('umoci'), ['unpack', '--image', `${layout}:${tag}`, bundle]);
  return join(bundle, 'rootfs');
}
