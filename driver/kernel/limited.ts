import { spawn } from 'node:child_process';
import { type Abortable, deadline, orAbort } from '#core/abort.ts';
import { GearError, messageOf } from '#core/errors.ts';

const MAX_OUTPUT = 8 * 1024 * 1024;
const MAX_STDERR = 4_000;

export interface LimitedOptions extends Abortable {
  /** Milliseconds. */
  readonly timeout: number;
}

/**
 * Runs a program that may never come back from a system call; gives what it printed. At the deadline it is killed and no longer waited for, whether or
 * not that ends it. Throws deadline-exceeded; failed-precondition, with what it said, when it fails.
 */
export async function runLimited(
  program: string,
  args: readonly string[],
  { timeout, signal }: LimitedOptions,
): Promise<Buffer> {
  const what = `${program} ${args.join(' ')}`;
  using limited = deadline(timeout, what, signal);
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: '/',
    env: { ...process.env, LC_ALL: 'C' },
  });
  using stack = new DisposableStack();
  stack.defer(() => {
    child.kill('SIGKILL');
    child.stdout.destroy();
    child.stderr.destroy();
    child.unref();
  });
  const output: Buffer[] = [];
  let size = 0;
  let said = '';
  child.stdout.on('data', (piece: Buffer) => {
    size += piece.length;
    if (size <= MAX_OUTPUT) output.push(piece);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-MAX_STDERR);
  });
  const { promise, resolve, reject } = Promise.withResolvers<number | string>();
  child.once('error', reject).once('close', (code, by) => resolve(code ?? by ?? 'unknown'));
  const code = await orAbort(promise, limited).catch((error: unknown) => {
    limited.throwIfAborted();
    throw new GearError('failed-precondition', `${program} cannot be run: ${messageOf(error)}`, { cause: error });
  });
  if (code !== 0) {
    throw new GearError('failed-precondition', `${what}: ${said.trim() || `it ended with ${code}`}`, {
      fields: { said },
    });
  }
  if (size > MAX_OUTPUT) throw new GearError('out-of-range', `${what}: more than ${MAX_OUTPUT} bytes of output`);
  return Buffer.concat(output);
}
