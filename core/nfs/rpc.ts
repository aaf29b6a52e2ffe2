import { createConnection, type Socket } from 'node:net';
import { type Abortable, orAbort } from '../abort.ts';
import { GearError, messageOf } from '../errors.ts';
import type { HostPort } from '../grpc/address.ts';
import { RecordReader } from './records.ts';
import { XdrReader, XdrWriter } from './xdr.ts';

// ONC RPC version 2 over TCP (RFC 5531).
const RPC_VERSION = 2;
const CALL = 0;
const REPLY = 1;
const ACCEPTED = 0;
const SUCCESS = 0;
const AUTH_NONE = 0;
const AUTH_SYS = 1;
const LAST_FRAGMENT = 0x8000_0000;
const RECEIVE_BYTES = 256 * 1024;
const MAX_VERIFIER = 400;

interface Waiter {
  resolve(reader: XdrReader): void;
  reject(error: unknown): void;
}

/** The program that is called. */
export interface RpcProgram {
  readonly program: number;
  readonly version: number;
}

// Who asks does not matter: servers of ours take everybody for nobody.
const CREDENTIALS = new XdrWriter().uint32(0).text('gear').uint32(65_534, 65_534, 0).toBuffer();

/** One connection to an RPC server. Calls are sent as they come; their answers may come in any order. */
export class RpcConnection implements Disposable {
  readonly #socket: Socket;
  readonly #program: RpcProgram;
  readonly #name: string;
  readonly #waiters = new Map<number, Waiter>();
  #xid = Math.floor(Math.random() * 2 ** 31);
  #ending: GearError | undefined;

  private constructor(socket: Socket, program: RpcProgram, name: string) {
    this.#socket = socket;
    this.#program = program;
    this.#name = name;
  }

  /** Throws unavailable where nobody listens, the signal's reason when that aborts first. */
  static async open(
    address: HostPort,
    program: RpcProgram,
    name: string,
    { signal }: Abortable,
  ): Promise<RpcConnection> {
    signal?.throwIfAborted();
    let take: ((record: Buffer) => void) | undefined;
    const buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
    const records = new RecordReader((record) => take?.(record));
    const socket = createConnection({
      ...address,
      noDelay: true,
      keepAlive: true,
      // One buffer for all that comes: else every piece would be a new one to collect.
      onread: {
        buffer,
        callback: (size) => {
          try {
            records.push(buffer.subarray(0, size));
          } catch (error) {
            socket.destroy(error as Error);
          }
          return true;
        },
      },
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const connection = new RpcConnection(socket, program, name);
    take = (record) => connection.#take(record);
    const ended = (error?: Error) => {
      connection.#end(error);
      reject(connection.#ending);
    };
    socket
      .once('connect', resolve)
      .on('error', ended)
      .on('close', () => ended());
    try {
      await orAbort(promise, signal);
      return connection;
    } catch (error) {
      connection[Symbol.dispose]();
      throw error;
    }
  }

  /** Whether it has broken. */
  get ended(): boolean {
    return this.#ending !== undefined;
  }

  /** One call; gives a reader of its results. Throws unavailable when the connection breaks, corrupt for an answer that is none. */
  async call(procedure: number, args: Buffer, { signal }: Abortable = {}): Promise<XdrReader> {
    signal?.throwIfAborted();
    if (this.#ending !== undefined) throw this.#ending;
    this.#xid = (this.#xid + 1) >>> 0;
    const xid = this.#xid;
    const { promise, resolve, reject } = Promise.withResolvers<XdrReader>();
    this.#waiters.set(xid, { resolve, reject });
    const { program, version } = this.#program;
    const header = new XdrWriter()
      .uint32(xid, CALL, RPC_VERSION, program, version, procedure)
      .uint32(AUTH_SYS)
      .opaque(CREDENTIALS)
      .uint32(AUTH_NONE, 0)
      .toBuffer();
    const mark = Buffer.allocUnsafe(4);
    mark.writeUInt32BE((LAST_FRAGMENT | (header.length + args.length)) >>> 0);
    this.#socket.write(Buffer.concat([mark, header, args]));
    try {
      return await orAbort(promise, signal);
    } finally {
      // A late answer is thrown away.
      this.#waiters.delete(xid);
    }
  }

  [Symbol.dispose](): void {
    this.#end(new GearError('unavailable', `${this.#name}: the connection was closed`));
    this.#socket.destroy();
  }

  #take(record: Buffer): void {
    const reader = new XdrReader(record);
    const waiter = this.#waiters.get(reader.uint32());
    if (waiter === undefined) return;
    try {
      this.#accept(reader);
      waiter.resolve(reader);
    } catch (error) {
      waiter.reject(error);
    }
  }

  /** Reads the header of an answer, up to the procedure's own results. */
  #accept(reader: XdrReader): void {
    if (reader.uint32() !== REPLY) throw new GearError('corrupt', `${this.#name} sends what is no answer`);
    if (reader.uint32() !== ACCEPTED) {
      throw new GearError('permission-denied', `${this.#name} takes neither this version of RPC nor AUTH_SYS`);
    }
    reader.uint32();
    reader.opaque(MAX_VERIFIER);
    const status = reader.uint32();
    if (status === SUCCESS) return;
    const { program, version } = this.#program;
    throw new GearError(
      'unsupported',
      `${this.#name} does not serve program ${program} version ${version} (${status})`,
    );
  }

  #end(cause: unknown): void {
    if (this.#ending !== undefined) return;
    const why = cause === undefined ? 'it closed the connection' : messageOf(cause);
    this.#ending = new GearError('unavailable', `${this.#name}: ${why}`, { cause });
    for (const { reject } of this.#waiters.values()) reject(this.#ending);
    this.#waiters.clear();
  }
}
