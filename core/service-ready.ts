import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Logger } from './log.ts';

const TIMEOUT = 10_000;

/**
 * Takes the address of a service manager that waits for this process (systemd, Type=notify) out of the environment, so that no child speaks there in our
 * name. Gives the function that says there that the service is ready; without a service manager it does nothing.
 */
export function serviceReadiness(environment: NodeJS.ProcessEnv, log: Logger): () => Promise<void> {
  const socket = environment['NOTIFY_SOCKET'];
  delete environment['NOTIFY_SOCKET'];
  if (socket === undefined) return async () => {};
  return async () => {
    try {
      // Node has no datagram sockets of the local kind.
      await promisify(execFile)('systemd-notify', ['--ready'], {
        env: { ...environment, NOTIFY_SOCKET: socket },
        timeout: TIMEOUT,
      });
    } catch (err) {
      log.warn({ err, socket }, 'the service manager could not be told that this service is ready');
    }
  };
}
