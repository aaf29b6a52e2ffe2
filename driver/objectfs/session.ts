import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '#core/errors.ts';
import type { Negotiated } from '../kernel/fuse/init.ts';
import type { NodePaths } from '../paths.ts';

/** Where the object filesystem keeps what concerns one mount; all below `<root>/run`. */
export interface ObjectfsFiles {
  readonly socket: string;
  readonly settings: string;
  readonly session: string;
  readonly opens: string;
  readonly log: string;
}

export function objectfsFiles(paths: NodePaths): ObjectfsFiles {
  return {
    socket: join(paths.run, 'objectfs.sock'),
    settings: join(paths.run, 'objectfs-settings.json'),
    session: join(paths.run, 'objectfs-session.json'),
    opens: join(paths.run, 'objectfs-opens'),
    log: join(paths.run, 'objectfs.log'),
  };
}

/** What holds for one mount, whichever process serves it. */
export interface Session {
  readonly startedAt: number;
  /** Undefined until the kernel has asked. */
  readonly negotiated?: Negotiated;
  /** Whether the caches' filesystem can be read past us; undefined until it was tried. */
  readonly passthrough?: boolean;
}

/** Begins the record of a new mount. */
export function newSession({ session, opens }: ObjectfsFiles): void {
  rmSync(opens, { force: true });
  writeSession(session, { startedAt: Date.now() });
}

export function readSession(file: string): Session {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Session;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return { startedAt: Date.now() };
    throw error;
  }
}

export function writeSession(file: string, session: Session): void {
  writeFileSync(`${file}.new`, JSON.stringify(session), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
