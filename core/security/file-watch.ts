import { statSync } from 'node:fs';

/** Milliseconds between two looks. */
const INTERVAL = 1_000;

/** What tells one state of a file from another, also where it was replaced by renaming or is behind a symbolic link. */
export function fileState(path: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

/** Calls `onChange` when one of the files has changed, until disposed. It looks, and is not told: files may be swapped by links several folders up. */
export function watchFiles(paths: readonly string[], onChange: () => void): Disposable {
  const look = () => paths.map(fileState).join();
  let before = look();
  const timer = setInterval(() => {
    const now = look();
    if (now === before) return;
    before = now;
    onChange();
  }, INTERVAL).unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
