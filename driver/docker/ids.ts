import { DriverError } from './errors.ts';

/** What one component of a path can hold on Linux. */
const MAX_BYTES = 255;

/**
 * Gives the id back if it can be the name of a folder: not empty, no slash, no NUL, not "." or "..", at most 255 bytes. Docker's
 * are 64 hexadecimal digits, with "-init" behind for a container's first layer; its test suite uses words. Throws invalid-id.
 */
export function checkId(id: unknown, what = 'layer id'): string {
  const wrong = typeof id !== 'string' ? 'not a string' : problemOf(id);
  if (wrong !== undefined) {
    throw new DriverError('invalid-id', `${what} ${JSON.stringify(id)?.slice(0, 300)} is refused: ${wrong}`);
  }
  return id as string;
}

/** Like checkId, but '' (no parent) passes. */
export function checkParent(parent: unknown): string {
  return parent === '' || parent === undefined || parent === null ? '' : checkId(parent, 'parent id');
}

function problemOf(id: string): string | undefined {
  if (id === '') return 'it is empty';
  if (id === '.' || id === '..') return 'it names a folder by its place';
  if (id.includes('/')) return 'it contains a slash';
  if (id.includes('\0')) return 'it contains a NUL';
  if (!id.isWellFormed()) return 'it is not well-formed Unicode';
  if (Buffer.byteLength(id) > MAX_BYTES) return `it has more than ${MAX_BYTES} bytes`;
  return undefined;
}
