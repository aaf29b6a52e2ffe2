import { once } from 'node:events';
import { lstat, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { until } from '#core/abort.ts';
import { GearError, isErrno, isGearError } from '#core/errors.ts';
import { silentLogger } from '#core/log.ts';
import { backendOf, type PluginBackend } from './backend.ts';
import { PluginClient } from './client.ts';
import { type Driver, NO_OPTIONS } from './driver.ts';
import { isDriverError, unknownLayer } from './errors.ts';
import { type PluginAddress, servePlugin } from './server.ts';

const log = silentLogger();

async function folder(): Promise<string> {
  const path = await mkdtemp('/tmp/gear-');
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** A driver that notes its calls; tests replace what they want to see fail or wait. */
class NotingDriver implements Driver {
  readonly name = 'noting';
  readonly calls: string[] = [];
  #note(...call: unknown[]): void {
    this.calls.push(call.join(' '));
  }
  async create(id: string, parent: string, { mountLabel, storageOpt }: typeof NO_OPTIONS): Promise<void> {
    this.#note('create', id, parent, mountLabel, JSON.stringify(storageOpt));
  }
  async createReadWrite(id: string, parent: string): Promise<void> {
    this.#note('createReadWrite', id, parent);
  }
  async remove(id: string): Promise<void> {
    this.#note('remove', id);
  }
  async get(id: string, mountLabel: string, _options?: { signal?: AbortSignal | undefined }): Promise<string> {
    this.#note('get', id, mountLabel);
    return `/mounted/${id}`;
  }
  async put(id: string): Promise<void> {
    this.#note('put', id);
  }
  async exists(id: string): Promise<boolean> {
    return id === 'there';
  }
  async status(): Promise<[string, string][]> {
    return [['Fine', 'yes']];
  }
  async getMetadata(id: string): Promise<Record<string, string>> {
    throw unknownLayer(id);
  }
  async cleanup(): Promise<void> {
    this.#note('cleanup');
  }
  async diff(id: string): Promise<AsyncIterable<Buffer>> {
    async function* pieces() {
      for (let count = 0; count < 50; count++) yield Buffer.alloc(100_000, id);
    }
    return pieces();
  }
  async changes(): Promise<{ path: string; kind: 0 | 1 | 2 }[]> {
    return [{ path: '/a', kind: 1 }];
  }
  async applyDiff(id: string, parent: string, diff: AsyncIterable<Uint8Array>): Promise<number> {
    let size = 0;
    for await (const piece of diff) size += piece.length;
    this.#note('applyDiff', id, parent, size);
    return size;
  }
  async diffSize(): Promise<number> {
    return 2 ** 40;
  }
}

async function serve(backend: PluginBackend, listen?: PluginAddress) {
  const path = join(await folder(), 'p.sock');
  const server = await servePlugin({
    name: 'test',
    listen: listen ?? { kind: 'unix', path },
    init: (options) => backend.init(options),
    current: () => backend.current(),
    log,
  });
  onTestFinished(() => server[Symbol.asyncDispose]());
  const client = new PluginClient(server.address);
  onTestFinished(() => client[Symbol.dispose]());
  return { server, client, path };
}

async function serveNoting() {
  const driver = new NotingDriver();
  return { driver, ...(await serve(backendOf(driver))) };
}

/** A POST as Docker sends it, and the whole answer. */
async function post(path: string, call: string, body?: string, headers = {}) {
  const outgoing = request({ socketPath: path, method: 'POST', path: `/${call}`, headers });
  outgoing.end(body);
  const [response] = await once(outgoing, 'response');
  // The server may close before it has read a body that is too long.
  outgoing.on('error', () => {});
  const text = Buffer.concat(await response.toArray()).toString();
  return { status: response.statusCode as number, headers: response.headers, json: JSON.parse(text) };
}

describe('the plugin protocol', () => {
  it('carries every call', async () => {
    const { driver, client } = await serveNoting();
    expect(await client.activate()).toEqual(['GraphDriver']);
    await client.init({ home: '/home' });
    await client.create('a', '', { mountLabel: 'label', storageOpt: { size: '1G' } });
    await client.createReadWrite('b', 'a', NO_OPTIONS);
    expect(await client.get('b', 'l')).toBe('/mounted/b');
    await client.put('b');
    expect([await client.exists('there'), await client.exists('b')]).toEqual([true, false]);
    expect(await client.status()).toEqual([['Fine', 'yes']]);
    await expect(client.getMetadata('b')).rejects.toSatisfy((error) => isDriverError(error, 'unknown-layer'));
    expect(await client.changes('b', 'a')).toEqual([{ path: '/a', kind: 1 }]);
    expect(await client.diffSize('b', 'a')).toBe(2 ** 40);
    expect(await client.capabilities()).toEqual({ reproducesExactDiffs: false });
    expect(Buffer.concat(await (await client.diff('x', '')).toArray())).toHaveLength(5_000_000);
    expect(await client.applyDiff('b', 'a', await client.diff('x', ''))).toBe(5_000_000);
    await client.remove('b');
    await client.cleanup();
    expect(driver.calls).toEqual([
      'create a  label {"size":"1G"}',
      'createReadWrite b a',
      'get b l',
      'put b',
      'applyDiff b a 5000000',
      'remove b',
      'cleanup',
    ]);
  });

  it('takes empty bodies, any content type and none', async () => {
    const { path } = await serveNoting();
    expect((await post(path, 'Plugin.Activate')).json).toEqual({ Implements: ['GraphDriver'] });
    expect((await post(path, 'GraphDriver.Status', '', { 'content-type': 'application/json' })).status).toBe(200);
    const json = '{"ID":"there"}\n';
    for (const type of ['application/vnd.docker.plugins.v1.2+json', 'text/plain', 'nonsense']) {
      expect((await post(path, 'GraphDriver.Exists', json, { 'content-type': type })).json).toEqual({ Exists: true });
    }
    expect((await post(path, 'GraphDriver.Exists', json)).json).toEqual({ Exists: true });
    expect((await post(path, 'GraphDriver.ApplyDiff?id=a&parent=', 'x'.repeat(5))).json).toEqual({ Size: 5 });
  });

  it('says errors in Err with status 200, and of Diff with another', async () => {
    const { driver, path } = await serveNoting();
    const metadata = await post(path, 'GraphDriver.GetMetadata', '{"ID":"x"}');
    expect([metadata.status, metadata.json.Err]).toEqual([200, 'no layer x here']);
    driver.diff = async () => {
      throw unknownLayer('x');
    };
    const early = await post(path, 'GraphDriver.Diff', '{"ID":"x"}');
    expect([early.status, early.json.Err]).toEqual([500, 'no layer x here']);
    driver.diff = async () =>
      (async function* () {
        yield* [];
        throw unknownLayer('y');
      })();
    const first = await post(path, 'GraphDriver.Diff', '{"ID":"y"}');
    expect([first.status, first.json.Err]).toEqual([500, 'no layer y here']);
  });

  it('breaks the connection when a diff fails midway', async () => {
    const { driver, client } = await serveNoting();
    driver.diff = async () =>
      (async function* () {
        yield Buffer.alloc(10_000);
        throw new GearError('corrupt', 'midway');
      })();
    const stream = await client.diff('x', '');
    await expect(stream.toArray()).rejects.toSatisfy((error) => isErrno(error, 'ECONNRESET'));
  });

  it('refuses bad requests and unknown calls by name', async () => {
    const { driver, path } = await serveNoting();
    const outside = await post(path, 'GraphDriver.Remove', '{"ID":"../x"}');
    expect(outside.json).toMatchObject({ Code: 'invalid-argument', Reason: 'invalid-id' });
    expect((await post(path, 'GraphDriver.ApplyDiff?id=..&parent=', '')).json.Reason).toBe('invalid-id');
    expect((await post(path, 'GraphDriver.ApplyDiff', '')).json.Reason).toBe('invalid-id');
    expect((await post(path, 'GraphDriver.Get', '{')).json.Err).toMatch(/not JSON/);
    const unknown = await post(path, 'GraphDriver.Nonsense', '{}');
    expect([unknown.status, unknown.json.Err]).toEqual([404, 'POST /GraphDriver.Nonsense is no call of this plugin']);
    const long = await post(path, 'GraphDriver.Get', `{"ID":"${'x'.repeat(5_000_000)}"}`);
    expect(long.status).toBe(413);
    expect(driver.calls).toEqual([]);
  });

  it('wants Init first', async () => {
    const { client } = await serve({ init: async () => new NotingDriver(), current: () => undefined });
    await expect(client.get('x', '')).rejects.toSatisfy((error) => isDriverError(error, 'not-initialized'));
    await expect(client.diff('x', '')).rejects.toThrow(/before GraphDriver.Init/);
    await expect(client.applyDiff('x', '', (async function* () {})())).rejects.toThrow(/before GraphDriver.Init/);
    expect(await client.activate()).toEqual(['GraphDriver']);
  });

  it('keeps the connection when ApplyDiff fails before the end of its body', async () => {
    const { driver, client } = await serveNoting();
    driver.applyDiff = async (id, _parent, diff) => {
      for await (const _piece of diff) throw new GearError('corrupt', `bad layer ${id}`);
      return 0;
    };
    async function* long() {
      for (let count = 0; count < 200; count++) yield Buffer.alloc(100_000);
    }
    await expect(client.applyDiff('x', '', long())).rejects.toThrow('bad layer x');
    expect(await client.exists('there')).toBe(true);
  });
});

describe('a client that goes away', () => {
  it('aborts its call, and a Get that it did not hear of is taken back', async () => {
    const { driver, client } = await serveNoting();
    const { promise: aborted, resolve } = Promise.withResolvers<void>();
    driver.get = async (id, _label, { signal } = {}) => {
      signal?.addEventListener('abort', () => resolve(), { once: true });
      controller.abort(new Error('gone'));
      await aborted;
      return `/mounted/${id}`;
    };
    const controller = new AbortController();
    await expect(client.get('x', '', { signal: controller.signal })).rejects.toThrow('gone');
    await aborted;
    await until('the Get is taken back', () => driver.calls.includes('put x'));
  });

  it('repeats a Put that was done without harm', async () => {
    const { driver, client } = await serveNoting();
    const put = driver.put.bind(driver);
    const controller = new AbortController();
    driver.put = async (id) => {
      await put(id);
      controller.abort(new Error('gone'));
      await until('the server has seen it', () => closed);
    };
    let closed = false;
    setTimeout(() => {
      closed = true;
    }, 100);
    await expect(client.put('x', { signal: controller.signal })).rejects.toThrow('gone');
    await until('the first is over', () => closed);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await client.put('x');
    expect(driver.calls).toEqual(['put x']);
    driver.put = put;
    await client.put('x');
    expect(driver.calls).toEqual(['put x', 'put x']);
  });

  it('cannot send the rest of a broken ApplyDiff as if it were a layer', async () => {
    const { driver, client } = await serveNoting();
    async function* breaks() {
      yield Buffer.alloc(100_000);
      await new Promise((resolve) => setTimeout(resolve, 50));
      throw new Error('broken');
    }
    await expect(client.applyDiff('x', '', breaks())).rejects.toThrow('broken');
    await new Promise((resolve) => setTimeout(resolve, 50));
    const rest = (async function* () {})();
    await expect(client.applyDiff('x', '', rest)).rejects.toSatisfy((error) => isDriverError(error, 'interrupted'));
    expect(driver.calls).toEqual([]);
    await client.remove('x');
    expect(await client.applyDiff('x', '', (async function* () {})())).toBe(0);
  });

  it('ends the diff that it no longer reads', async () => {
    const { driver, client } = await serveNoting();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    driver.diff = async () =>
      (async function* () {
        try {
          for (;;) yield Buffer.alloc(100_000);
        } finally {
          resolve();
        }
      })();
    const stream = await client.diff('x', '');
    await once(stream, 'readable');
    stream.destroy();
    await ended;
  });
});

describe('where a plugin listens', () => {
  const serveAt = async (listen: PluginAddress) => await serve(backendOf(new NotingDriver()), listen);

  it('is a socket for its owner only, removed at the end', async () => {
    const at = await folder();
    const path = join(at, 'sub/p.sock');
    const { server, client } = await serveAt({ kind: 'unix', path });
    expect(server.address).toBe(`unix://${path}`);
    const stats = await lstat(path);
    expect([stats.isSocket(), stats.mode & 0o777]).toEqual([true, 0o600]);
    await client.status();
    await server[Symbol.asyncDispose]();
    expect(await readdir(join(at, 'sub'))).toEqual([]);
    await expect(client.status()).rejects.toSatisfy((error) => isGearError(error, 'unavailable'));
  });

  it('is not the socket of another that lives', async () => {
    const path = join(await folder(), 'p.sock');
    const { client } = await serveAt({ kind: 'unix', path });
    await expect(serveAt({ kind: 'unix', path })).rejects.toThrow(/p.sock is already in use/);
    expect(await client.status()).toEqual([['Fine', 'yes']]);
  });

  it('takes the place of a dead one', async () => {
    const at = await folder();
    const path = join(at, 'p.sock');
    const dead = createServer().listen(join(at, 'dead.sock'));
    await once(dead, 'listening');
    await rename(join(at, 'dead.sock'), path);
    dead.close();
    await once(dead, 'close');
    expect((await lstat(path)).isSocket()).toBe(true);
    const { client } = await serveAt({ kind: 'unix', path });
    expect(await client.status()).toEqual([['Fine', 'yes']]);
  });

  it('is no file and no folder that is there already', async () => {
    const at = await folder();
    await writeFile(join(at, 'file'), 'precious');
    await mkdir(join(at, 'folder'));
    for (const name of ['file', 'folder']) {
      await expect(serveAt({ kind: 'unix', path: join(at, name) })).rejects.toThrow(/no socket/);
    }
    expect(await readFile(join(at, 'file'), 'utf8')).toBe('precious');
    await expect(serveAt({ kind: 'unix', path: join(at, 'x'.repeat(120)) })).rejects.toThrow(/107 bytes/);
  });

  it('is a TCP port that a spec file names', async () => {
    const specFolder = join(await folder(), 'plugins');
    const { server, client } = await serveAt({ kind: 'tcp', address: '127.0.0.1:0', specFolder });
    expect(server.address).toMatch(/^tcp:\/\/127\.0\.0\.1:[1-9][0-9]*$/);
    expect(await readFile(join(specFolder, 'test.spec'), 'utf8')).toBe(server.address);
    expect(await client.status()).toEqual([['Fine', 'yes']]);
    const { server: next } = await serveAt({ kind: 'tcp', address: '127.0.0.1:0', specFolder });
    await server[Symbol.asyncDispose]();
    expect(await readFile(join(specFolder, 'test.spec'), 'utf8')).toBe(next.address);
    const inUse = serveAt({ kind: 'tcp', address: next.address.replace('tcp://', ''), specFolder });
    await expect(inUse).rejects.toSatisfy((error) => isGearError(error, 'already-exists'));
    await next[Symbol.asyncDispose]();
    expect(await readdir(specFolder)).toEqual([]);
  });

  it('lets running calls end before it closes', async () => {
    const { driver, server, client, path } = await serveNoting();
    const { promise: may, resolve } = Promise.withResolvers<void>();
    const { promise: entered, resolve: enter } = Promise.withResolvers<void>();
    driver.get = async (id) => {
      enter();
      await may;
      return `/late/${id}`;
    };
    const late = client.get('x', '');
    await entered;
    const closing = server[Symbol.asyncDispose]();
    await until('no new connection', async () => {
      const socket = connect(path);
      const event = await Promise.race([once(socket, 'connect'), once(socket, 'error')]).catch(() => 'refused');
      socket.destroy();
      return event === 'refused';
    });
    resolve();
    expect(await late).toBe('/late/x');
    await closing;
  });
});
