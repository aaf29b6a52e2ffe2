import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';

// Reads files for a test (see reader.ts) in a process of its own: whoever waits for a mount waits here.

/** Of fcntl.h; Node does not name it. */
const O_PATH = 0o10000000;

interface Request {
  readonly id: number;
  readonly action: 'open' | 'find' | 'read' | 'close' | 'list';
  readonly path: string | { readonly latin1: string };
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
}

function act({ action, path, fd, offset, length }: Request): unknown {
  switch (action) {
    case 'open':
      return openSync(typeof path === 'string' ? path : Buffer.from(path.latin1, 'latin1'), 'r');
    case 'find':
      return `/proc/self/fd/${openSync(path as string, O_PATH)}`;
    case 'close':
      return closeSync(fd);
    case 'list':
      return readdirSync(path as string).sort();
    case 'read': {
      const bytes = Buffer.alloc(length < 0 ? fstatSync(fd).size : length);
      let done = 0;
      while (done < bytes.length) {
        const count = readSync(fd, bytes, done, bytes.length - done, offset + done);
        if (count === 0) break;
        done += count;
      }
      return bytes.toString('base64', 0, done);
    }
  }
}

process.on('message', (request: Request) => {
  try {
    process.send?.({ id: request.id, result: act(request) });
  } catch (error) {
    process.send?.({ id: request.id, code: (error as NodeJS.ErrnoException).code ?? String(error) });
  }
});
process.on('disconnect', () => process.exit(0));
