import { constants } from 'node:os';

export type ErrnoName = keyof typeof constants.errno;

/** What a handler throws to answer a request with this errno. */
export class FuseError extends Error {
  override readonly name = 'FuseError';
  readonly code: ErrnoName;

  constructor(code: ErrnoName, message: string = code, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The positive number of an errno. */
export function errnoOf(name: ErrnoName): number {
  return constants.errno[name];
}

const NAMES = new Map(Object.entries(constants.errno).map(([name, number]) => [number as number, name]));
NAMES.set(constants.errno.EAGAIN, 'EAGAIN');

/** "ENOENT" for 2. */
export function errnoName(number: number): string {
  return NAMES.get(number) ?? String(number);
}
