import { connect, createServer, type Socket } from 'node:net';

/** Passes TCP connections on to another port of 127.0.0.1, as badly as a test wants. */
export interface TcpRelay extends AsyncDisposable {
  readonly port: number;
  /** Bytes that clients were given so far. */
  readonly passed: number;
  /** Bytes a second that all clients together get; undefined: no limit. */
  rate: number | undefined;
  /** Milliseconds after which what comes for clients is passed on. */
  late: number;
  /** Told to clients whatever they ask, in place of what the server would say; connections that are open when it is set break. */
  nonsense: string | undefined;
  /** After so many more bytes to clients the wire is cut: nothing passes in either direction, nothing is closed, connections made later are as dead. */
  cutAfter(bytes: number): void;
  /** Connections made from now on work; those that were cut stay dead, as after a reboot of what stood between. */
  mend(): void;
}

/** Starts one to `target`, on a free port. */
export async function startTcpRelay(target: number): Promise<TcpRelay> {
  const sockets = new Set<Socket>();
  let left = Number.POSITIVE_INFINITY;
  let era = 0;
  let passed = 0;
  let freeAt = 0;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    return socket.on('error', () => {}).on('close', () => sockets.delete(socket));
  };
  let rate: number | undefined;
  let late = 0;
  let nonsense: string | undefined;
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const client = keep(socket);
    if (nonsense !== undefined) {
      const told = nonsense;
      client.on('data', () => client.end(told));
      return;
    }
    const far = keep(connect({ host: '127.0.0.1', port: target, allowHalfOpen: true, noDelay: true }));
    const born = era;
    const isAlive = () => born === era && left > 0;
    client.on('data', (bytes: Buffer) => {
      if (isAlive()) far.write(bytes);
    });
    far.on('data', (bytes: Buffer) => {
      if (!isAlive()) return;
      const now = performance.now();
      freeAt = Math.max(now, freeAt) + (rate === undefined ? 0 : (bytes.length / rate) * 1000);
      far.pause();
      setTimeout(
        () => {
          far.resume();
          if (!isAlive()) return;
          const part = bytes.subarray(0, Math.min(left, bytes.length));
          left -= part.length;
          passed += part.length;
          client.write(part);
        },
        freeAt - now + late,
      );
    });
    for (const [from, to] of [[client, far] as const, [far, client] as const]) {
      // Behind what is still held back.
      const behind = (work: () => void) => {
        const unlessCut = () => {
          if (isAlive()) work();
        };
        if (from === client) unlessCut();
        else setTimeout(unlessCut, Math.max(0, freeAt - performance.now()) + late + 1);
      };
      from.on('end', () => {
        behind(() => to.end());
      });
      from.on('close', () => {
        behind(() => to.destroy());
      });
    }
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject).listen(0, '127.0.0.1', resolve);
  await promise;
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the relay has no port');
  return {
    port: address.port,
    get passed() {
      return passed;
    },
    get rate() {
      return rate;
    },
    set rate(value) {
      rate = value;
    },
    get late() {
      return late;
    },
    set late(value) {
      late = value;
    },
    get nonsense() {
      return nonsense;
    },
    set nonsense(value) {
      nonsense = value;
      for (const socket of sockets) socket.destroy();
    },
    cutAfter: (bytes: number) => {
      left = bytes;
    },
    mend: () => {
      era++;
      left = Number.POSITIVE_INFINITY;
    },
    [Symbol.asyncDispose]: async () => {
      const { promise: closed, resolve: done } = Promise.withResolvers<void>();
      server.close(() => done());
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
