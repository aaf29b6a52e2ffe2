import { Agent, type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import type { Abortable } from '#core/abort.ts';
import { type ErrorCode, GearError } from '#core/errors.ts';
import { parseHostPort } from '#core/grpc/address.ts';
import type {
  Capabilities,
  Change,
  CreateOptions,
  DiffDriver,
  DriverOptions,
  ProtoDriver,
  StatusLine,
} from './driver.ts';
import { DriverError, type DriverErrorReason, isDriverErrorReason } from './errors.ts';
import * as wire from './wire.ts';

type Body = Buffer | AsyncIterable<Uint8Array>;

/**
 * A client of a graphdriver plugin with every raw call, on a unix socket ("unix:///path" or an absolute path) or TCP ("tcp://HOST:PORT"). It is a driver
 * itself: what works on one works through it. Calls are made once, not repeated. Errors of the plugin are GearErrors (DriverErrors where the
 * plugin is one of ours), with its text; a connection that fails is unavailable.
 */
export class PluginClient implements ProtoDriver, DiffDriver, Disposable {
  readonly name: string;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #target: { socketPath: string } | { host: string; port: number };

  constructor(address: string, name = 'plugin') {
    this.name = name;
    this.#target = address.startsWith('tcp://')
      ? parseHostPort(address.slice('tcp://'.length), 'the address of the plugin')
      : { socketPath: address.replace(/^unix:\/\//, '') };
  }

  /** What the plugin implements: ["GraphDriver"]. */
  async activate(options: Abortable = {}): Promise<readonly string[]> {
    return (await this.#json('Plugin.Activate', {}, options)).Implements ?? [];
  }

  async init(init: Pick<DriverOptions, 'home'> & Partial<DriverOptions>, options: Abortable = {}): Promise<void> {
    const maps = {
      UIDMaps: (init.uidMaps ?? []).map(wire.idMapToWire),
      GIDMaps: (init.gidMaps ?? []).map(wire.idMapToWire),
    };
    await this.#call('Init', { Home: init.home, Opts: init.options ?? [], ...maps }, options);
  }

  async create(id: string, parent: string, options: CreateOptions): Promise<void> {
    await this.#call('Create', creation(id, parent, options), options);
  }

  async createReadWrite(id: string, parent: string, options: CreateOptions): Promise<void> {
    await this.#call('CreateReadWrite', creation(id, parent, options), options);
  }

  async remove(id: string, options: Abortable = {}): Promise<void> {
    await this.#call('Remove', { ID: id }, options);
  }

  async get(id: string, mountLabel: string, options: Abortable = {}): Promise<string> {
    return (await this.#call('Get', { ID: id, MountLabel: mountLabel }, options)).Dir ?? '';
  }

  async put(id: string, options: Abortable = {}): Promise<void> {
    await this.#call('Put', { ID: id }, options);
  }

  async exists(id: string, options: Abortable = {}): Promise<boolean> {
    return (await this.#call('Exists', { ID: id }, options)).Exists ?? false;
  }

  async status(options: Abortable = {}): Promise<StatusLine[]> {
    return [...((await this.#call('Status', {}, options)).Status ?? [])];
  }

  async getMetadata(id: string, options: Abortable = {}): Promise<Record<string, string>> {
    return { ...(await this.#call('GetMetadata', { ID: id }, options)).Metadata };
  }

  async cleanup(options: Abortable = {}): Promise<void> {
    await this.#call('Cleanup', {}, options);
  }

  async capabilities(options: Abortable = {}): Promise<Capabilities> {
    const { Capabilities } = await this.#call('Capabilities', {}, options);
    return { reproducesExactDiffs: Capabilities?.ReproducesExactDiffs ?? false };
  }

  async diff(id: string, parent: string, options: Abortable = {}): Promise<Readable> {
    return await this.#send('GraphDriver.Diff', encode({ ID: id, Parent: parent }), options);
  }

  async changes(id: string, parent: string, options: Abortable = {}): Promise<Change[]> {
    const { Changes } = await this.#call('Changes', { ID: id, Parent: parent }, options);
    return (Changes ?? []).map(wire.changeFromWire);
  }

  async applyDiff(
    id: string,
    parent: string,
    diff: AsyncIterable<Uint8Array>,
    options: Abortable = {},
  ): Promise<number> {
    const query = new URLSearchParams({ id, parent });
    const answer = await this.#answer(await this.#send(`GraphDriver.ApplyDiff?${query}`, diff, options), 'ApplyDiff');
    return answer.Size ?? 0;
  }

  async diffSize(id: string, parent: string, options: Abortable = {}): Promise<number> {
    return (await this.#call('DiffSize', { ID: id, Parent: parent }, options)).Size ?? 0;
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  async #call(call: wire.Call, fields: object, options: Abortable): Promise<wire.PluginResponse> {
    return await this.#json(`GraphDriver.${call}`, fields, options);
  }

  async #json(path: string, fields: object, options: Abortable): Promise<wire.PluginResponse> {
    return await this.#answer(await this.#send(path, encode(fields), options), path);
  }

  async #answer(response: IncomingMessage, what: string): Promise<wire.PluginResponse> {
    const answer = wire.parseBody(Buffer.concat(await response.toArray())) as wire.PluginResponse;
    if (answer.Err !== undefined && answer.Err !== '') throw errorOf(answer, what);
    return answer;
  }

  /** Sends a request; gives the answer once its status is known to be 200. */
  async #send(path: string, body: Body, { signal }: Abortable): Promise<IncomingMessage> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const outgoing = request({
      ...this.#target,
      agent: this.#agent,
      method: 'POST',
      path: `/${path}`,
      headers: { accept: wire.CONTENT_TYPE, 'content-type': wire.CONTENT_TYPE },
      ...(signal === undefined ? {} : { signal }),
    });
    outgoing.once('response', resolve);
    outgoing.on('error', (error) => reject(signal?.aborted ? signal.reason : unreachable(path, error)));
    const source = Buffer.isBuffer(body) ? undefined : Readable.from(body);
    source?.once('error', (error) => {
      reject(error);
      outgoing.destroy(error);
    });
    if (source === undefined) outgoing.end(body);
    else source.pipe(outgoing);
    const response = await promise;
    response.once('close', () => {
      // An answer before the end of the body is an error that the plugin tells; the rest need not be sent.
      if (outgoing.writableFinished) return;
      source?.destroy();
      outgoing.destroy();
    });
    if (response.statusCode === 200) return response;
    const text = Buffer.concat(await response.toArray());
    let answer: wire.PluginResponse = {};
    try {
      answer = wire.parseBody(text);
    } catch {
      answer = { Err: text.toString('utf8') };
    }
    throw errorOf({ ...answer, Err: answer.Err || `HTTP status ${response.statusCode}` }, path);
  }
}

function encode(fields: object): Buffer {
  return Buffer.from(JSON.stringify(fields));
}

function creation(id: string, parent: string, { mountLabel, storageOpt }: CreateOptions): wire.PluginRequest {
  return { ID: id, Parent: parent, MountLabel: mountLabel, StorageOpt: storageOpt };
}

function unreachable(path: string, error: Error): GearError {
  return new GearError('unavailable', `${path}: the plugin cannot be reached: ${error.message}`, { cause: error });
}

const CODES: ReadonlySet<string> = new Set<ErrorCode>([
  'cancelled',
  'invalid-argument',
  'deadline-exceeded',
  'not-found',
  'already-exists',
  'permission-denied',
  'resource-exhausted',
  'failed-precondition',
  'aborted',
  'out-of-range',
  'unsupported',
  'unavailable',
  'corrupt',
  'unauthenticated',
]);

function errorOf({ Err = '', Code = '', Reason = '' }: wire.PluginResponse, call: string): GearError {
  const fields = { call };
  if (isDriverErrorReason(Reason)) return new DriverError(Reason satisfies DriverErrorReason, Err, { fields });
  return new GearError(CODES.has(Code) ? (Code as ErrorCode) : 'internal', Err, { fields });
}
