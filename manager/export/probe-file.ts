import { hash, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from '#core/atomic-file.ts';
import { type Digest, digestOf } from '#core/digest.ts';
import { orUndefined } from '#core/errors.ts';

/** Below the exported folder. No name of an object starts with a dot, so that the store takes no notice of it. */
export const PROBE_PATH = '.gear/probe';
/** Of an odd length, and short enough for a client to read it at once: longer ones made the client that knows zeros (4.2) fail instead. */
const PROBE_BYTES = 120 * 1024 + 1;
const BLOCK = 32;

/** What is known of the probe. */
export interface Probe {
  readonly path: string;
  readonly size: number;
  readonly digest: Digest;
}

/**
 * The probe's bytes: a line that says whose they are, then bytes that look random and are the same for the same store (sha256 of the id and a counter),
 * with no zeros for a server or client to leave out.
 */
export function probeBytes(store: string): Buffer {
  const pieces = [Buffer.from(`${JSON.stringify({ gear: 1, store })}\n`)];
  for (let block = 0; block * BLOCK < PROBE_BYTES; block++) pieces.push(hash('sha256', `${store} ${block}`, 'buffer'));
  return Buffer.concat(pieces, PROBE_BYTES);
}

/** The store that a probe belongs to; undefined where the bytes are no probe. */
export function storeOf(bytes: Buffer): string | undefined {
  const line = bytes.toString('latin1', 0, 200).split('\n')[0] ?? '';
  return /^\{"gear":1,"store":"([0-9a-f-]{36})"\}$/.exec(line)?.[1];
}

/** Makes sure that the folder of objects has its probe, whole. It stays the same as long as the store is. */
export async function writeProbe(objects: string): Promise<Probe> {
  const file = join(objects, PROBE_PATH);
  const found = await orUndefined(readFile(file), 'ENOENT');
  const store = (found === undefined ? undefined : storeOf(found)) ?? randomUUID();
  const bytes = probeBytes(store);
  if (found === undefined || !found.equals(bytes)) await writeAtomically(file, bytes, { mode: 0o444 });
  return { path: PROBE_PATH, size: bytes.length, digest: digestOf(bytes) };
}
