import { deadline, orAbort } from '#core/abort.ts';
import { type Digest, digestOf, objectPath } from '#core/digest.ts';
import { GearError, isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { type FileHandle, NfsClient } from '#core/nfs/client.ts';
import type { Access } from '#core/security/access.ts';
import { describeExport, type ExportFacts } from './export-facts.ts';
import type { ObjectSource, SourceState } from './source.ts';

const CONNECT_MS = 5_000;
const READ_MS = 3_000;
/** Bytes a millisecond below which a connection counts as dead. */
const SLOWEST = 64;
/** Milliseconds before the server is tried again: away (doubling), exporting nothing or not to be trusted. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;
const REFUSED_PAUSE = 60_000;

interface Session {
  readonly client: NfsClient;
  readonly folder: FileHandle;
}

/**
 * The manager's objects over NFS 4.0, spoken by this process: no kernel client is needed, no thread of ours can hang in one. A connection is used only
 * after known content has been read through it and had the right digest.
 */
export class NfsSource implements ObjectSource, Disposable {
  readonly name: string;
  readonly #manager: string;
  readonly #log: Logger;
  readonly #access: Access;
  readonly #stop = new AbortController();
  #facts: ExportFacts | undefined;
  #session: Session | undefined;
  #opening: Promise<Session> | undefined;
  #state: SourceState = { kind: 'untried', reason: '' };
  #pause = FIRST_PAUSE;
  #retryAt = 0;

  /** Takes the manager's "host:port". `access`: to its gRPC; NFS itself has none. */
  constructor(manager: string, log: Logger, access: Access = {}) {
    this.name = `NFS of manager ${manager}`;
    this.#manager = manager;
    this.#log = log;
    this.#access = access;
  }

  get state(): SourceState {
    return this.#state;
  }

  /** Whether a read can be sent at once. If not, and it is time to try again, a connection is being made from now on. */
  get ready(): boolean {
    if (this.#session?.client.ended === true)
      this.#drop(new GearError('unavailable', `${this.name}: it closed the connection`));
    if (this.#session !== undefined) return true;
    if (performance.now() >= this.#retryAt) this.#connect().catch(() => {});
    return false;
  }

  /** Waits for a connection. Throws why there is none; at once, where it is not time to try again. */
  async connected(signal: AbortSignal): Promise<void> {
    if (this.ready) return;
    if (this.#opening === undefined) throw new GearError('unavailable', this.#state.reason);
    await orAbort(this.#opening, signal);
  }

  async read(
    digest: Digest,
    offset: number,
    length: number,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<Buffer> {
    await this.connected(signal);
    // It goes on when nobody waits for it any more: a server that has fallen silent is only found out by what it owes.
    return await orAbort(this.#read(this.#session as Session, digest, offset, length), signal);
  }

  /** Bytes from here did not match their digest: nothing is asked for a while, and then only after known content has matched again. */
  distrust(reason: string): void {
    if (this.#session === undefined) return;
    this.#drop(new GearError('corrupt', `${this.name}: ${reason}`));
  }

  [Symbol.dispose](): void {
    this.#stop.abort(new GearError('unavailable', `${this.name} is no longer asked`));
    this.#session?.client[Symbol.dispose]();
    this.#session = undefined;
  }

  async #read(session: Session, digest: Digest, offset: number, length: number): Promise<Buffer> {
    const what = `${length} bytes of object ${digest} at ${offset} from ${session.client.name}`;
    using limited = deadline(READ_MS + length / SLOWEST, what);
    try {
      return await session.client.read(session.folder, objectPath(digest), offset, length, { signal: limited });
    } catch (error) {
      if (session === this.#session && !isGearError(error, 'not-found', 'out-of-range')) this.#drop(error);
      throw error;
    }
  }

  #connect(): Promise<Session> {
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #open(): Promise<Session> {
    try {
      using limited = deadline(CONNECT_MS, this.name, this.#stop.signal);
      const facts = await this.#describe(limited);
      const session = await openSession(facts, limited);
      this.#stop.signal.throwIfAborted();
      this.#session = session;
      this.#pause = FIRST_PAUSE;
      this.#state = { kind: 'trusted', reason: '' };
      this.#log.info(
        { server: session.client.name, path: facts.path },
        'the NFS export gives the right bytes; it is used',
      );
      return session;
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#failed(error);
      throw error;
    }
  }

  /** Where gRPC is away, what it said last is still worth a try. */
  async #describe(signal: AbortSignal): Promise<ExportFacts> {
    try {
      this.#facts = await describeExport(this.#manager, { signal, access: this.#access });
    } catch (error) {
      if (this.#facts === undefined || !isGearError(error, 'unavailable', 'deadline-exceeded', 'unauthenticated'))
        throw error;
    }
    return this.#facts;
  }

  #drop(error: unknown): void {
    this.#session?.client[Symbol.dispose]();
    this.#session = undefined;
    this.#failed(error);
  }

  #failed(error: unknown): void {
    const before = this.#state;
    const kind = isGearError(error, 'failed-precondition')
      ? 'off'
      : isGearError(error, 'corrupt', 'not-found', 'permission-denied', 'unsupported')
        ? 'refused'
        : 'away';
    this.#state = { kind, reason: messageOf(error) };
    this.#retryAt = performance.now() + (kind === 'away' ? this.#pause : REFUSED_PAUSE);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
    if (before.kind === kind && before.reason === this.#state.reason) return;
    this.#log[kind === 'off' ? 'info' : 'warn']({ reason: this.#state.reason }, `no objects over NFS: ${kind}`);
  }
}

/** A connection that is known to give the right bytes. Throws corrupt for another store than the manager's. */
async function openSession({ server, path, versions, probe }: ExportFacts, signal: AbortSignal): Promise<Session> {
  if (!versions.includes('4.0')) {
    throw new GearError('unsupported', `the export speaks NFS ${versions.join(', ')}; objects are fetched by 4.0`);
  }
  using stack = new DisposableStack();
  const client = stack.use(await NfsClient.connect(server, { signal }));
  const folder = await client.folder(path, { signal });
  const bytes = await client.read(folder, probe.path, 0, probe.size, { signal }).catch((error: unknown) => {
    if (!isGearError(error, 'not-found', 'out-of-range')) throw error;
    throw new GearError(
      'corrupt',
      `${client.name}: what is at ${path} is not the store of this manager: ${messageOf(error)}`,
    );
  });
  if (digestOf(bytes) !== probe.digest) {
    throw new GearError(
      'corrupt',
      `${client.name}: ${path}/${probe.path} has digest ${digestOf(bytes)}, the manager says ${probe.digest}: it is another store, or the bytes were changed on their way`,
    );
  }
  stack.move();
  return { client, folder };
}
