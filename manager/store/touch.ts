import { utimesSync } from 'node:fs';

/** Marks a file of the store as used now, for garbage collection. See leases.ts. */
export function touch(path: string): void {
  const now = Date.now() / 1000;
  utimesSync(path, now, now);
}
