import { type AddressInfo, createServer, type Socket } from 'node:net';
import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ContentStoreService } from '#proto/gen/gear/v1/objects.ts';
import { sleep, until } from '../abort.ts';
import { connect } from './client.ts';

/** A content store that misbehaves as told. */
async function serve(implementation: object): Promise<string> {
  const server = new Server();
  server.addService(ContentStoreService, implementation as never);
  onTestFinished(() => server.forceShutdown());
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return `127.0.0.1:${port}`;
}

/** Something that listens but is no gRPC server. */
async function listen(onConnection: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const DIGESTS = { digests: [Buffer.alloc(32)] };
const RANGE = { range: { digest: Buffer.alloc(32), offset: 0n, length: 0n } };
const { findMissing, read, readMany, write } = ContentStoreService;

describe('unary', () => {
  it('gives the answer, and errors with their code and the peer', async () => {
    let fails = false;
    const address = await serve({
      findMissing: (call: { request: object }, callback: (error: object | null, value?: object) => void) =>
        fails ? callback({ code: status.RESOURCE_EXHAUSTED, details: 'no room' }) : callback(null, call.request),
    });
    using connection = connect(address);
    expect(await connection.unary(findMissing, DIGESTS)).toEqual(DIGESTS);
    fails = true;
    await expect(connection.unary(findMissing, DIGESTS)).rejects.toMatchObject({
      name: 'GearError',
      code: 'resource-exhausted',
      message: `FindMissing at ${address}: no room`,
    });
    await expect(
      connection.unary(findMissing, DIGESTS, { signal: AbortSignal.abort(new Error('no')) }),
    ).rejects.toThrow('no');
  });

  it('ends at its deadline, and with its signal', async () => {
    const address = await serve({ findMissing: () => {} });
    using connection = connect(address);
    const began = performance.now();
    await expect(connection.unary(findMissing, DIGESTS, { timeout: 200 })).rejects.toMatchObject({
      code: 'deadline-exceeded',
    });
    const controller = new AbortController();
    const asked = connection.unary(findMissing, DIGESTS, { signal: controller.signal, timeout: 10_000 });
    setTimeout(() => controller.abort(new Error('enough')), 100);
    await expect(asked).rejects.toThrow('enough');
    expect(performance.now() - began).toBeLessThan(5000);
  });

  it.each([
    ['nothing', undefined, 'unavailable'],
    ['a server of another protocol', (socket: Socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'), 'unavailable'],
    ['a server that hangs up', (socket: Socket) => socket.destroy(), 'unavailable'],
    ['a server that says nothing', () => {}, 'deadline-exceeded'],
  ])('fails in time where there is %s', async (_what, onConnection, code) => {
    const address = onConnection === undefined ? '127.0.0.1:1' : await listen(onConnection);
    using connection = connect(address);
    await expect(connection.unary(findMissing, DIGESTS, { timeout: 1500 })).rejects.toMatchObject({ code });
  });

  it('says that a service is not there', async () => {
    using connection = connect(await serve({ findMissing: undefined }));
    await expect(connection.unary(findMissing, DIGESTS)).rejects.toMatchObject({ code: 'unsupported' });
  });

  it('refuses what is no address', () => {
    for (const address of ['', 'host', ':1', 'host:', 'host:70000', 'http://host:1', 'a b:1']) {
      expect(() => connect(address, '--manager')).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    }
  });

  it('does not go through a proxy of the environment', async () => {
    const before = process.env['http_proxy'];
    onTestFinished(() => {
      if (before === undefined) delete process.env['http_proxy'];
      else process.env['http_proxy'] = before;
    });
    process.env['http_proxy'] = 'http://127.0.0.1:1';
    const address = await serve({
      findMissing: (call: { request: object }, done: (e: null, v: object) => void) => done(null, call.request),
    });
    using connection = connect(address.replace('127.0.0.1', 'localhost'));
    expect(await connection.unary(findMissing, DIGESTS, { timeout: 5000 })).toEqual(DIGESTS);
  });
});

interface ServerStream {
  readonly cancelled: boolean;
  write(message: object): boolean;
  end(): void;
  emit(event: 'error', error: object): void;
  on(event: string, listener: (message: object) => void): void;
}

describe('serverStream', () => {
  it('cancels the call when the loop is left', async () => {
    let call: ServerStream | undefined;
    const address = await serve({
      read: (stream: ServerStream) => {
        call = stream;
        for (let at = 0; at < 5; at++) stream.write({ data: Buffer.from([at]) });
      },
    });
    using connection = connect(address);
    for await (const { data } of connection.serverStream(read, RANGE)) if (data[0] === 2) break;
    await until('the end of the call', () => call?.cancelled);
  });

  it('throws what ended it behind the last message', async () => {
    const address = await serve({
      read: (stream: ServerStream) => {
        stream.write({ data: Buffer.from('x') });
        stream.emit('error', { code: status.DATA_LOSS, details: 'broken' });
      },
    });
    using connection = connect(address);
    const messages: string[] = [];
    const reading = async () => {
      for await (const { data } of connection.serverStream(read, RANGE)) messages.push(data.toString());
    };
    await expect(reading()).rejects.toMatchObject({ code: 'corrupt' });
    expect(messages).toEqual(['x']);
  });

  it('ends with its signal while it waits', async () => {
    const address = await serve({ read: () => {} });
    using connection = connect(address);
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('enough')), 100);
    const reading = Array.fromAsync(connection.serverStream(read, RANGE, { signal: controller.signal }));
    await expect(reading).rejects.toThrow('enough');
  });
});

describe('clientStream', () => {
  it('asks for no more than the server takes', async () => {
    // Never reads: only what flow control allows may leave.
    const address = await serve({ write: () => {} });
    using connection = connect(address);
    let sent = 0;
    async function* requests() {
      for (;;) {
        sent++;
        yield { part: { $case: 'data' as const, value: Buffer.alloc(100_000) } };
      }
    }
    const writing = connection.clientStream(write, requests(), { timeout: 1000 });
    await expect(writing).rejects.toMatchObject({ code: 'deadline-exceeded' });
    expect(sent).toBeLessThan(100);
  });

  it('fails with the server, also while it waits for the next request', async () => {
    const address = await serve({
      write: (_call: object, callback: (error: object) => void) =>
        callback({ code: status.INVALID_ARGUMENT, details: 'bad' }),
    });
    using connection = connect(address);
    async function* requests() {
      yield { part: undefined };
      await sleep(5000);
    }
    const began = performance.now();
    await expect(connection.clientStream(write, requests())).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(performance.now() - began).toBeLessThan(3000);
  });

  it("fails with the requests' own error, and cancels the call", async () => {
    let call: ServerStream | undefined;
    const address = await serve({
      write: (stream: ServerStream) => {
        call = stream;
        stream.on('data', () => {});
      },
    });
    using connection = connect(address);
    async function* requests() {
      yield { part: undefined };
      await until('the call', () => call !== undefined);
      throw new Error('no more');
    }
    await expect(connection.clientStream(write, requests())).rejects.toThrow('no more');
    await until('the end of the call', () => call?.cancelled);
  });
});

describe('exchange', () => {
  it('fails a send that waits for room when the call ends', async () => {
    const address = await serve({ readMany: () => {} });
    using connection = connect(address);
    using exchange = connection.exchange(readMany, { timeout: 1000 });
    const ranges = Array(5000).fill(RANGE.range);
    const sending = async () => {
      for (;;) await exchange.send({ ranges });
    };
    await expect(sending()).rejects.toMatchObject({ code: 'deadline-exceeded' });
    await expect(exchange.send({ ranges })).rejects.toMatchObject({ code: 'deadline-exceeded' });
  });

  it('cancels the call when it is disposed', async () => {
    let call: ServerStream | undefined;
    const address = await serve({
      readMany: (stream: ServerStream) => {
        call = stream;
        stream.on('data', () => {});
      },
    });
    using connection = connect(address);
    {
      using exchange = connection.exchange(readMany);
      await exchange.send({ ranges: [] });
      await until('the call', () => call !== undefined);
    }
    await until('the end of the call', () => call?.cancelled);
  });
});
