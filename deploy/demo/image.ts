import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { projectRoot } from '../sandbox/gear.ts';
import { type WrittenImage, writeOciLayout } from '../sandbox/oci-layout.ts';

// What a small service does at its start: load a few modules, say so.
const PROGRAM = `import Fastify from 'fastify';
import grpc from '@grpc/grpc-js';
import pino from 'pino';
const server = Fastify();
await server.ready();
new grpc.Server();
console.log('ready: node ' + process.version + ', fastify ' + server.version + ', pino ' + pino.version);
`;

/** What a container of the image runs. */
export const COMMAND = ['/usr/bin/node', '/app/main.mjs'];

/** The shared libraries of a program, and the loader. */
async function librariesOf(path: string): Promise<string[]> {
  const { stdout } = await execa('ldd', [path]);
  return [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, library]) => library as string);
}

/**
 * Makes an image of what this machine has: Node with its libraries, and this project's modules with a small program. Thousands of files, two layers; an
 * OCI layout in `folder`/layout.
 */
export async function makeNodeImage(folder: string, signal: AbortSignal): Promise<WrittenImage> {
  const stage = join(folder, 'stage');
  for (const name of ['base/usr/bin', 'base/tmp', 'base/etc', 'base/proc', 'base/sys', 'base/dev', 'app/app']) {
    await mkdir(join(stage, name), { recursive: true });
  }
  await copyFile(process.execPath, join(stage, 'base/usr/bin/node'));
  for (const library of await librariesOf(process.execPath)) {
    const copy = join(stage, 'base', library);
    await mkdir(dirname(copy), { recursive: true });
    await copyFile(library, copy);
  }
  await writeFile(join(stage, 'base/etc/passwd'), 'root:x:0:0:root:/:/usr/bin/node\n');
  await writeFile(join(stage, 'app/app/main.mjs'), PROGRAM);
  const tar = async (name: string, ...args: readonly string[]) => {
    const path = join(folder, name);
    await execa('tar', ['--create', '--file', path, '--owner=0', '--group=0', '--sort=name', ...args], {
      cancelSignal: signal,
    });
    // Level 1: the demo compares starts, it does not store the image.
    return { tar: { path }, level: 1 };
  };
  const layers = [
    await tar('base.tar', '--directory', join(stage, 'base'), '.'),
    await tar(
      'app.tar',
      ...['--directory', join(stage, 'app'), 'app'],
      ...['--directory', projectRoot, '--transform=flags=r;s,^node_modules,app/node_modules,', 'node_modules'],
    ),
  ];
  signal.throwIfAborted();
  return await writeOciLayout(join(folder, 'layout'), { layers, config: { Cmd: COMMAND, WorkingDir: '/app' } });
}
