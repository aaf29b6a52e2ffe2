import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { GearError, messageOf } from '../errors.ts';

/** Certificates and tokens are small; something else was named by mistake. */
const MAX_BYTES = 1024 * 1024;

/** Who may do what with the file beside its owner, as bits of its mode. */
const FORBIDDEN = {
  // A group may read: Kubernetes gives secrets to a pod's group. Nobody else may do anything.
  secret: 0o027,
  // What is trusted must not be anybody's to change.
  public: 0o002,
} as const;

/**
 * Reads a file that security rests on: a key or a token ("secret"), a certificate ("public"). `what` names the option. Throws failed-precondition for a
 * file that is not there, or that others may read or change; never says anything of its content.
 */
export function readPrivateFile(path: string, kind: keyof typeof FORBIDDEN, what: string): Buffer {
  const wrong = (why: string, cause?: unknown) =>
    new GearError('failed-precondition', `${what} ${path}: ${why}`, { cause, fields: { path } });
  let fd: number;
  try {
    // A FIFO would wait for a writer.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw wrong(absent ? 'there is no such file' : messageOf(error), error);
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw wrong('not a file');
    const mode = (stats.mode & 0o7777).toString(8).padStart(4, '0');
    if ((stats.mode & FORBIDDEN[kind]) !== 0) {
      const remedy = kind === 'secret' ? 'chmod 600' : 'chmod o-w';
      throw wrong(`others may ${kind === 'secret' ? 'read or change' : 'change'} it (mode ${mode}); ${remedy} ${path}`);
    }
    if (stats.size === 0) throw wrong('it is empty');
    if (stats.size > MAX_BYTES) throw wrong(`${stats.size} bytes are too many`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
