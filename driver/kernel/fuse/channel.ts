import { read, writeSync, writevSync } from 'node:fs';
import { isErrno } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { residentBuffer } from '../resident.ts';
import { errnoOf } from './errno.ts';
import { NOTIFY } from './flags.ts';
import { OUT_HEADER_BYTES, outHeader } from './reply.ts';

/** FUSE_MIN_READ_BUFFER is 8 KiB; the kernel refuses smaller ones. Requests carry at most a name or two, and 4 KiB to write. */
const BUFFER_BYTES = 16 * 1024;

/** The open /dev/fuse: messages in, replies out. */
export class Channel {
  readonly #fd: number;
  readonly #log: Logger;

  constructor(fd: number, log: Logger) {
    this.#fd = fd;
    this.#log = log;
  }

  /**
   * Gives every message to `handle`, which must be done with the bytes when it returns. Resolves when the mount is gone. `readers` reads wait in
   * the kernel at a time: each takes a thread of libuv's pool.
   */
  async serve(handle: (message: Buffer) => void, readers = 2): Promise<void> {
    await Promise.all(Array.from({ length: readers }, () => this.#read(handle)));
  }

  /** Sends a reply in pieces. False: nobody waited for it any longer. */
  send(pieces: readonly Uint8Array[]): boolean {
    try {
      if (pieces.length === 1) writeSync(this.#fd, pieces[0] as Uint8Array);
      else writevSync(this.#fd, pieces as Uint8Array[]);
      return true;
    } catch (err) {
      // ENOENT: the request was given up; ENODEV: the mount is gone.
      if (isErrno(err, 'ENOENT', 'ENODEV')) return false;
      this.#log.error({ err }, 'the kernel did not take a reply');
      this.#refuse(pieces[0] as Uint8Array);
      return false;
    }
  }

  /**
   * Asks the kernel to send everything again that was read from here and never answered, also by this process: so it has to be done before `serve`. Throws
   * EINVAL where it cannot (before 6.9).
   */
  askAgain(): void {
    writeSync(this.#fd, outHeader({ high: 0, low: 0 }, NOTIFY.RESEND, 0), 0, OUT_HEADER_BYTES);
  }

  // Whoever waits must get some answer.
  #refuse(header: Uint8Array): void {
    const view = new DataView(header.buffer, header.byteOffset, OUT_HEADER_BYTES);
    const unique = { low: view.getUint32(8, true), high: view.getUint32(12, true) };
    try {
      writeSync(this.#fd, outHeader(unique, -errnoOf('EIO'), 0));
    } catch (err) {
      this.#log.error({ err }, 'the kernel did not take an error either');
    }
  }

  #read(handle: (message: Buffer) => void): Promise<void> {
    // Where a page is missing, a thread that is being killed does not get it, and the kernel answers the request that this thread has just taken with EIO.
    const buffer = residentBuffer(BUFFER_BYTES);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const next = () => {
      read(this.#fd, buffer, 0, BUFFER_BYTES, null, (error, bytes) => {
        if (error !== null) {
          // ENOENT: the request was given up while it was being handed over.
          if (isErrno(error, 'ENOENT', 'EINTR', 'EAGAIN')) next();
          else if (isErrno(error, 'ENODEV')) resolve();
          else reject(error);
          return;
        }
        handle(buffer.subarray(0, bytes));
        next();
      });
    };
    next();
    return promise;
  }
}
