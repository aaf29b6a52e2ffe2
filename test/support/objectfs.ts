import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { DIGEST_BYTES, type Digest, digestOf, digestToBytes, objectPath } from '#core/digest.ts';
import { type ObjectFacts, writeObjectTable } from '#core/index/object-table.ts';
import { DEFAULT_CHUNK_SIZE } from '#core/index/tree.ts';
import { silentLogger } from '#core/log.ts';
import { unmountTree } from '../../driver/kernel/mount.ts';
import { ensureObjectFilesystem } from '../../driver/objectfs/client.ts';
import type { ObjectFilesystem, ObjectFilesystemSettings } from '../../driver/objectfs/interface.ts';
import { endLeftovers } from '../../driver/objectfs/leftovers.ts';

/** A content server of test/support/content-server.ts. */
export interface ContentServer extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
  /** "DIGEST OFFSET LENGTH" of each range asked so far. */
  readonly asked: string[];
  delay(milliseconds: number): void;
  kill(): Promise<void>;
}

/** Starts one over a folder of objects; port 0: any. */
export async function startContentServer(folder: string, port = 0): Promise<ContentServer> {
  const script = fileURLToPath(new URL('./content-server.ts', import.meta.url));
  const child: ChildProcess = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', script, folder, String(port)],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  const asked: string[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const exited = new Promise<void>((done) => child.once('exit', () => done()));
  void exited.then(() => reject(new Error('the content server has ended')));
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    const listening = /^listening (\d+)$/.exec(line);
    if (listening === null) asked.push(line);
    else resolve(Number(listening[1]));
  });
  const bound = await promise;
  const kill = async () => {
    child.kill('SIGKILL');
    await exited;
  };
  return {
    address: `127.0.0.1:${bound}`,
    port: bound,
    asked,
    delay: (milliseconds) => void child.stdin?.write(`delay ${milliseconds}\n`),
    kill,
    [Symbol.asyncDispose]: kill,
  };
}

/** An object for tests. */
export interface TestObject {
  readonly digest: Digest;
  readonly bytes: Buffer;
  readonly facts: ObjectFacts;
}

/** An object with these bytes. */
export function testObject(bytes: Buffer, chunkSize = DEFAULT_CHUNK_SIZE): TestObject {
  const chunks: Buffer[] = [];
  if (bytes.length > chunkSize) {
    for (let at = 0; at < bytes.length; at += chunkSize)
      chunks.push(digestToBytes(digestOf(bytes.subarray(at, at + chunkSize))));
  }
  const chunkDigests = Buffer.concat(chunks, chunks.length * DIGEST_BYTES);
  return { digest: digestOf(bytes), bytes, facts: { size: bytes.length, chunkDigests } };
}

export function randomObject(size: number, chunkSize = DEFAULT_CHUNK_SIZE): TestObject {
  return testObject(randomBytes(size), chunkSize);
}

/** A node's root and a folder of objects, both gone with it: mounts, processes and all. */
export interface TestNode extends AsyncDisposable {
  readonly root: string;
  readonly objects: string;
  /** Gives the store these objects. */
  store(...objects: TestObject[]): Promise<void>;
  /** Makes an image of these objects; gives its id. */
  image(objects: readonly TestObject[], chunkSize?: number): Promise<Digest>;
  start(settings: ObjectFilesystemSettings): Promise<ObjectFilesystem>;
  /** Where an object lies in the mount. */
  remote(image: Digest, object: TestObject): string;
}

/** `parent`: the folder below which the root is made. */
export async function testNode(parent = tmpdir()): Promise<TestNode> {
  const root = await mkdtemp(join(parent, 'gear-ofs-'));
  const objects = await mkdtemp(join(tmpdir(), 'gear-obj-'));
  let slot = 0;
  const log = silentLogger();
  return {
    root,
    objects,
    store: async (...all) => {
      for (const { digest, bytes } of all) {
        const file = join(objects, objectPath(digest));
        await mkdir(join(file, '..'), { recursive: true });
        await writeFile(file, bytes);
      }
    },
    image: async (all, chunkSize = DEFAULT_CHUNK_SIZE) => {
      const table = writeObjectTable(new Map(all.map(({ digest, facts }) => [digest, facts])), {
        slot: ++slot,
        chunkSize,
      });
      const image = digestOf(table);
      await mkdir(join(root, 'images', image), { recursive: true });
      await mkdir(join(root, 'private', image), { recursive: true });
      await writeFile(join(root, 'images', image, 'objects'), table);
      return image;
    },
    start: (settings) => ensureObjectFilesystem({ root, settings, log }),
    remote: (image, { digest }) => join(root, 'remote', image, objectPath(digest)),
    [Symbol.asyncDispose]: async () => {
      await unmountTree(root, { detach: true });
      await endLeftovers(root, log);
      await rm(root, { recursive: true, force: true });
      await rm(objects, { recursive: true, force: true });
    },
  };
}
