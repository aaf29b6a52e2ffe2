import { koffi, type TypeSpec } from './koffi.ts';

/** A path: text as UTF-8, or the raw bytes. */
export type Path = string | Buffer;

type Argument = number | bigint | Buffer | null;
interface ForeignFunction {
  (...values: Argument[]): number | bigint;
  async(...values: [...Argument[], (error: unknown, result: number | bigint) => void]): void;
}

/** What an error tells about the call that failed, as in Node's own errors. */
export interface Operand {
  readonly path?: Path;
  readonly dest?: Path;
}

/** A function of libc that answers -1 and sets errno when it fails. */
export interface SystemCall {
  /** Runs on this thread. Throws as Node's fs does. */
  (operand: Operand, ...values: Argument[]): number;
  /** Runs on another thread: for calls that may wait, such as mount and umount where a FUSE server is behind. */
  async(operand: Operand, ...values: Argument[]): Promise<number>;
}

// The program itself is linked with libc, whatever file that is (glibc, musl).
const libc = koffi.load(null);
const strerror = libc.func('strerror', 'str', ['int']) as unknown as (errno: number) => string;

// Several names share EAGAIN and EOPNOTSUPP; Node calls the latter ENOTSUP.
const NAMES = new Map(Object.entries(koffi.os.errno).map(([name, number]) => [number, name]));
NAMES.set(koffi.os.errno['EAGAIN'] as number, 'EAGAIN').set(koffi.os.errno['EOPNOTSUPP'] as number, 'ENOTSUP');

/** The number behind an errno's name on this machine ("ENOENT"). */
export function errnoNumber(name: string): number {
  const number = koffi.os.errno[name];
  if (number === undefined) throw new TypeError(`unknown errno ${name}`);
  return number;
}

/** An error like those of Node's fs: `code` ("ENOENT"), `errno` (negative), `syscall`, `path`, `dest`. Takes a positive errno. */
export function systemError(errno: number, syscall: string, { path, dest }: Operand = {}): NodeJS.ErrnoException {
  const code = NAMES.get(errno) ?? `E${errno}`;
  const from = path === undefined ? '' : ` '${path.toString()}'`;
  const to = dest === undefined ? '' : ` -> '${dest.toString()}'`;
  const error: NodeJS.ErrnoException = new Error(`${code}: ${strerror(errno)}, ${syscall}${from}${to}`);
  Object.assign(error, { errno: -errno, code, syscall });
  if (path !== undefined) error.path = path.toString();
  if (dest !== undefined) Object.assign(error, { dest: dest.toString() });
  return error;
}

/**
 * A function of libc as a SystemCall. `types` are koffi's; a `void *` takes a Buffer, which is read and written in place. `result`
 * must be what the header says: the upper half of a register that holds an int is not defined.
 */
export function systemCall(
  name: string,
  types: readonly TypeSpec[],
  { result = 'int', label = name }: { result?: 'int' | 'long'; label?: string } = {},
): SystemCall {
  const native = libc.func(name, result, [...types]) as unknown as ForeignFunction;
  const call = (operand: Operand, ...values: Argument[]): number => {
    const answer = Number(native(...values));
    if (answer === -1) throw systemError(koffi.errno(), label, operand);
    return answer;
  };
  const async = (operand: Operand, ...values: Argument[]): Promise<number> =>
    new Promise((resolve, reject) => {
      native.async(...values, (error, answer) => {
        // koffi hands the other thread's errno to this callback only.
        const errno = koffi.errno();
        if (error !== null && error !== undefined) reject(error);
        else if (Number(answer) === -1) reject(systemError(errno, label, operand));
        else resolve(Number(answer));
        // Named here so that the Buffers live until the call is over.
        values.length = 0;
      });
    });
  return Object.assign(call, { async });
}

/**
 * A system call that libc may have no function for. `numbers` has the call's number for each architecture (asm/unistd.h).
 * Throws ENOSYS on an architecture that is not listed.
 */
export function rawSystemCall(
  label: string,
  numbers: Readonly<Partial<Record<NodeJS.Architecture, number>>>,
  types: readonly TypeSpec[],
): SystemCall {
  const number = numbers[process.arch];
  const call = systemCall('syscall', ['long', ...types], { result: 'long', label });
  const known = (operand: Operand): number => {
    if (number === undefined) throw systemError(errnoNumber('ENOSYS'), label, operand);
    return number;
  };
  return Object.assign((operand: Operand, ...values: Argument[]) => call(operand, known(operand), ...values), {
    async: async (operand: Operand, ...values: Argument[]) => await call.async(operand, known(operand), ...values),
  });
}

/** Text or bytes with the NUL that C wants behind them. Throws EINVAL where there is a NUL inside. */
export function cString(text: Path, syscall = 'path'): Buffer {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  if (bytes.includes(0)) throw systemError(errnoNumber('EINVAL'), `${syscall} (a NUL byte inside)`, { path: text });
  const terminated = Buffer.allocUnsafe(bytes.length + 1);
  bytes.copy(terminated);
  terminated[bytes.length] = 0;
  return terminated;
}
