import type { Duplex } from 'node:stream';

/** Calls `onLine` for each line that comes; what is behind the last newline is not a line. (readline's Interface turns a broken connection into an error of its own.) */
export function readLines(stream: Duplex, onLine: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
}
