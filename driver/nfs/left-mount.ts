import { readFile } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import { writeAtomically } from '#core/atomic-file.ts';
import { orUndefined } from '#core/errors.ts';
import { findNfsMount, type NfsMount, type NfsVersion } from '../kernel/nfs-mount.ts';
import type { ExportFacts } from '../remote/export-facts.ts';

/** What a driver is told to mount. */
export interface Wanted {
  readonly manager: string;
  readonly version: NfsVersion;
  readonly connections: number | undefined;
  readonly readSize: number | undefined;
}

/** A mount, and what was known of its export when it was made. */
export interface KnownMount {
  readonly facts: ExportFacts;
  readonly mount: NfsMount;
}

const noteOf = (target: string): string => `${target}.json`;
/** As it comes back from the file. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** Writes down, beside the mount point, what was mounted there, for the driver that comes after this one. */
export async function noteMount(target: string, wanted: Wanted, known: KnownMount): Promise<void> {
  const device = findNfsMount(target)?.device;
  await writeAtomically(noteOf(target), JSON.stringify({ device, wanted, known }), { flush: false });
}

/** What is mounted at `target`, where a driver that wanted the same has written that down; else undefined. Asks no server. */
export async function leftMount(target: string, wanted: Wanted): Promise<KnownMount | undefined> {
  const found = findNfsMount(target);
  const text = found && (await orUndefined(readFile(noteOf(target), 'utf8'), 'ENOENT'));
  if (found === undefined || text === undefined) return undefined;
  try {
    const note = JSON.parse(text) as { device?: string; wanted?: unknown; known: KnownMount };
    return note.device === found.device && isDeepStrictEqual(note.wanted, plain(wanted)) ? note.known : undefined;
  } catch {
    // Not flushed when the power went: no mount is left either, but one of somebody else.
    return undefined;
  }
}
