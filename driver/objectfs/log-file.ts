import { copyFileSync, fstatSync, ftruncateSync } from 'node:fs';
import type { Logger } from '#core/log.ts';

/** Moves a log's content to `<file>.1` when it has become larger than `limit` bytes. Works for all who append to it, because its inode stays. */
export function rotateLog(fd: number, file: string, limit: number, log: Logger): void {
  try {
    const facts = fstatSync(fd);
    if (!facts.isFile() || facts.size < limit) return;
    copyFileSync(file, `${file}.1`);
    ftruncateSync(fd, 0);
  } catch (err) {
    log.warn({ err }, 'log not rotated');
  }
}
