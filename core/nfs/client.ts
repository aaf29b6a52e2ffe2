import type { Abortable } from '../abort.ts';
import { type ErrorCode, GearError } from '../errors.ts';
import { formatHostPort, type HostPort } from '../grpc/address.ts';
import { RpcConnection } from './rpc.ts';
import { type XdrReader, XdrWriter } from './xdr.ts';

// NFS version 4.0 (RFC 7530): as much of it as reading a file by name takes. A READ with the anonymous state id needs no OPEN, no client id and
// no lease, so that an object costs one message each way and the server keeps nothing for us.
const PROGRAM = { program: 100_003, version: 4 } as const;
const NULL = 0;
const COMPOUND = 1;
const OPERATION = { getFh: 10, lookup: 15, putFh: 22, putRootFh: 24, read: 25 } as const;
const ANONYMOUS = Buffer.alloc(16);
/** NFS4_FHSIZE. */
const MAX_HANDLE = 128;
/** What servers give at most, mostly; one that gives less is asked again for the rest. */
const MAX_READ = 1024 * 1024;

const STATUS: Readonly<Record<number, readonly [name: string, code: ErrorCode]>> = {
  1: ['NFS4ERR_PERM', 'permission-denied'],
  2: ['NFS4ERR_NOENT', 'not-found'],
  5: ['NFS4ERR_IO', 'internal'],
  13: ['NFS4ERR_ACCESS', 'permission-denied'],
  20: ['NFS4ERR_NOTDIR', 'not-found'],
  21: ['NFS4ERR_ISDIR', 'not-found'],
  70: ['NFS4ERR_STALE', 'unavailable'],
  10001: ['NFS4ERR_BADHANDLE', 'unavailable'],
  10008: ['NFS4ERR_DELAY', 'unavailable'],
  10013: ['NFS4ERR_GRACE', 'unavailable'],
  10014: ['NFS4ERR_FHEXPIRED', 'unavailable'],
  10016: ['NFS4ERR_WRONGSEC', 'permission-denied'],
  10018: ['NFS4ERR_RESOURCE', 'unavailable'],
  10021: ['NFS4ERR_MINOR_VERS_MISMATCH', 'unsupported'],
};

/** A folder of the server. */
export type FileHandle = Buffer & { readonly fileHandle?: never };

/** A connection to an NFS server, for reading. Every call throws a GearError; unavailable when the connection is broken. */
export class NfsClient implements Disposable {
  readonly name: string;
  readonly #connection: RpcConnection;

  private constructor(name: string, connection: RpcConnection) {
    this.name = name;
    this.#connection = connection;
  }

  static async connect(address: HostPort, { signal }: Abortable = {}): Promise<NfsClient> {
    const name = `NFS server ${formatHostPort(address)}`;
    return new NfsClient(name, await RpcConnection.open(address, PROGRAM, name, { signal }));
  }

  /** Whether the connection is broken. */
  get ended(): boolean {
    return this.#connection.ended;
  }

  /** Asks for nothing: shows that an NFS 4 server answers. */
  async ping({ signal }: Abortable = {}): Promise<void> {
    await this.#connection.call(NULL, Buffer.alloc(0), { signal });
  }

  /** The folder at `path`, from the server's root on. Throws not-found, permission-denied. */
  async folder(path: string, { signal }: Abortable = {}): Promise<FileHandle> {
    const names = path.split('/').filter((name) => name !== '');
    const operations = new XdrWriter().uint32(OPERATION.putRootFh);
    for (const name of names) operations.uint32(OPERATION.lookup).text(name);
    operations.uint32(OPERATION.getFh);
    const reader = await this.#compound(operations, names.length + 2, path, signal);
    for (let i = 0; i < names.length + 1; i++) this.#operation(reader, path);
    this.#operation(reader, path);
    return Buffer.from(reader.opaque(MAX_HANDLE));
  }

  /** Exactly `length` bytes of the file at `path` below a folder. Throws not-found, out-of-range where the file is shorter, permission-denied. */
  async read(
    folder: FileHandle,
    path: string,
    offset: number,
    length: number,
    { signal }: Abortable = {},
  ): Promise<Buffer> {
    if (length <= MAX_READ) return await this.#readAll(folder, path, offset, length, signal);
    const parts: Promise<Buffer>[] = [];
    for (let at = 0; at < length; at += MAX_READ)
      parts.push(this.#readAll(folder, path, offset + at, Math.min(MAX_READ, length - at), signal));
    return Buffer.concat(await Promise.all(parts), length);
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }

  async #readAll(
    folder: FileHandle,
    path: string,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let received = 0;
    while (received < length) {
      const { bytes, eof } = await this.#readOnce(folder, path, offset + received, length - received, signal);
      // Nearly always, and nothing is copied.
      if (bytes.length === length) return bytes;
      pieces.push(bytes);
      received += bytes.length;
      if (received < length && (eof || bytes.length === 0)) {
        throw new GearError('out-of-range', `${path} from ${this.name}: ${received} of ${length} bytes at ${offset}`);
      }
    }
    return Buffer.concat(pieces, length);
  }

  async #readOnce(
    folder: FileHandle,
    path: string,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<{ bytes: Buffer; eof: boolean }> {
    const names = path.split('/');
    const operations = new XdrWriter().uint32(OPERATION.putFh).opaque(folder);
    for (const name of names) operations.uint32(OPERATION.lookup).text(name);
    operations.uint32(OPERATION.read).fixed(ANONYMOUS).uint64(offset).uint32(length);
    const reader = await this.#compound(operations, names.length + 2, path, signal);
    for (let i = 0; i < names.length + 2; i++) this.#operation(reader, path);
    const eof = reader.uint32() !== 0;
    return { bytes: reader.opaque(length), eof };
  }

  async #compound(
    operations: XdrWriter,
    count: number,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<XdrReader> {
    const args = new XdrWriter().text('').uint32(0, count).fixed(operations.toBuffer()).toBuffer();
    const reader = await this.#connection.call(COMPOUND, args, { signal });
    // The status is that of the last operation that was made, which says it again with its own name; without any, this is all.
    const status = reader.uint32();
    reader.opaque(1024);
    if (reader.uint32() === 0) this.#check(status, what);
    return reader;
  }

  #operation(reader: XdrReader, what: string): void {
    reader.uint32();
    this.#check(reader.uint32(), what);
  }

  #check(status: number, what: string): void {
    if (status === 0) return;
    const [name, code] = STATUS[status] ?? [`NFS status ${status}`, 'internal'];
    throw new GearError(code, `${what} from ${this.name}: ${name}`);
  }
}
