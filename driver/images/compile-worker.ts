import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parentPort } from 'node:worker_threads';
import { digestOf } from '#core/digest.ts';
import { GearError, isGearError, messageOf } from '#core/errors.ts';
import { decodeIndex } from '#core/index/encode.ts';
import { writeObjectTable } from '#core/index/object-table.ts';
import { objectsOf, summarize } from '#core/index/objects.ts';
import type { Tree } from '#core/index/tree.ts';
import { writeIndexImage } from '../kernel/erofs/index-image.ts';
import { writeIndexFolder } from '../kernel/erofs/plain-index.ts';
import type { CompileReply, CompileRequest, IndexFormat, TableWritten } from './compile.ts';
import { countImplied, inheritImplied } from './implied.ts';

/** The thread's work: from the encoded index in the folder to what the kernel and the object filesystem need. */
async function compile({ folder, image, slot, format, lowers }: CompileRequest): Promise<CompileReply> {
  const bytes = await readFile(join(folder, 'index'));
  const digest = digestOf(bytes);
  if (digest !== image) {
    throw new GearError(
      'corrupt',
      `the index of image sha256:${image} is damaged: its bytes have the digest sha256:${digest}`,
    );
  }
  const tree = decodeIndex(bytes);
  if (lowers !== undefined) inheritImplied(tree, lowers);
  const objects = objectsOf(tree);
  await writeFile(join(folder, 'objects'), writeObjectTable(objects, { slot, chunkSize: tree.chunkSize }), {
    mode: 0o444,
  });
  parentPort?.postMessage('table' satisfies TableWritten);
  const warnings = await writeIndex(tree, folder, format);
  return { ok: true, kind: tree.kind, summary: summarize(tree), implied: countImplied(tree), warnings };
}

async function writeIndex(tree: Tree, folder: string, format: IndexFormat): Promise<string[]> {
  switch (format) {
    case 'erofs':
      return (await writeIndexImage(tree, join(folder, 'index.erofs'))).warnings;
    case 'directory':
      return (await writeIndexFolder(tree, join(folder, 'index.d'))).warnings;
    case 'tree':
      // The object filesystem reads the index itself.
      return [];
  }
}

function describe(error: unknown): CompileReply {
  return { ok: false, code: isGearError(error) ? error.code : 'internal', message: messageOf(error) };
}

parentPort?.on('message', (request: CompileRequest) => {
  void compile(request)
    .catch(describe)
    .then((reply) => parentPort?.postMessage(reply));
});
