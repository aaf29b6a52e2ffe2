import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { GearError, isErrno, isGearError, messageOf } from '#core/errors.ts';
import { isDriverError } from './errors.ts';
import type { PluginResponse } from './wire.ts';

/** Aborts when the client goes away before it has its whole answer, or when `stopping` does. */
export function clientSignal(response: ServerResponse, call: string, stopping: AbortSignal): AbortSignal {
  const controller = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) {
      controller.abort(new GearError('cancelled', `${call}: the client went away before it had its answer`));
    }
  });
  return AbortSignal.any([controller.signal, stopping]);
}

/** Runs `then` if the client does not get the answer that is about to be sent, or was not there any more for it. */
export function ifUnheard(response: ServerResponse, then: () => void): void {
  if (response.closed || response.destroyed) {
    if (!response.writableFinished) then();
    return;
  }
  response.once('close', () => {
    if (!response.writableFinished) then();
  });
}

/** What an error looks like to the client. */
export function errorResponse(error: unknown): PluginResponse & { readonly Err: string } {
  const code = isGearError(error) ? error.code : isErrno(error) ? error.code : undefined;
  return {
    Err: messageOf(error) || 'unknown error',
    ...(code === undefined ? {} : { Code: code }),
    ...(isDriverError(error) ? { Reason: error.reason } : {}),
  };
}

/**
 * Sends a stream as the body of an answer. The first piece is waited for before anything is sent, so that what fails at once (an unknown layer) is still
 * an ordinary error: that is thrown. An error after that breaks the connection, and the client sees a truncated body: also thrown, for the log.
 */
export async function sendStream(
  response: ServerResponse,
  stream: Readable | AsyncIterable<Buffer>,
  signal: AbortSignal,
): Promise<void> {
  const pieces = (stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  try {
    let piece = await pieces.next();
    signal.throwIfAborted();
    response.writeHead(200, { 'content-type': 'application/x-tar' });
    for (; piece.done !== true; piece = await pieces.next()) {
      if (!response.write(piece.value)) await once(response, 'drain', { signal });
      signal.throwIfAborted();
    }
    response.end();
    await once(response, 'close', { signal });
  } catch (error) {
    if (signal.aborted) response.destroy();
    else if (response.headersSent && !response.writableFinished) {
      // What was written goes out first (Node gathers it until the next turn): a client that has no answer at all would repeat the call.
      await nextTurn();
      response.socket?.destroySoon();
    }
    // once() wraps the reason of an abort.
    throw signal.aborted ? signal.reason : error;
  } finally {
    await pieces.return?.();
  }
}
