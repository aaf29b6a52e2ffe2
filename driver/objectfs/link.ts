import type { Duplex } from 'node:stream';
import { readLines } from './lines.ts';

/** What the server and its supervisor say to each other, a JSON line each. */
export type LinkMessage =
  /** Server: I am not stuck. */
  | { readonly type: 'alive' }
  /** Server: unmount, and let us both end. */
  | { readonly type: 'stop' }
  /** Supervisor: it is unmounted. */
  | { readonly type: 'stopped' }
  /** Server: I end so that newer code takes over; start that. Undefined: the code that you know. */
  | { readonly type: 'replace'; readonly script?: string };

/** The socket between the two. Its end is how either learns of the other's death, however that came. */
export class Link {
  readonly #stream: Duplex;

  /** `onEnd` is called once. */
  constructor(stream: Duplex, onMessage: (message: LinkMessage) => void, onEnd: () => void) {
    this.#stream = stream;
    readLines(stream, (line) => onMessage(JSON.parse(line) as LinkMessage));
    // An error is always followed by "close".
    stream.on('error', () => {});
    stream.once('close', onEnd);
    stream.on('end', () => stream.destroy());
  }

  send(message: LinkMessage): void {
    if (this.#stream.writable) this.#stream.write(`${JSON.stringify(message)}\n`);
  }

  close(): void {
    this.#stream.destroy();
  }
}
