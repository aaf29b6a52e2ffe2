import { readFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ContentStoreService } from '#proto/gen/gear/v1/objects.ts';
import { makePki, type Pki } from '../../test/support/pki.ts';
import type { Access } from '../security/access.ts';
import { connect } from './client.ts';

const stack = new AsyncDisposableStack();
let pki: Pki;
let other: Pki;
const ports: Record<string, number> = {};

/** A content store that answers, with a certificate of the CA; with `mutual` only to those who have one, too. */
async function serve(
  name: string,
  { cert = 'manager', mutual = false, plain = false, host = '127.0.0.1' } = {},
): Promise<void> {
  const server = new Server();
  const findMissing = (call: { request: object }, done: (error: null, answer: object) => void) =>
    done(null, call.request);
  server.addService(ContentStoreService, { findMissing } as never);
  stack.defer(() => server.forceShutdown());
  const read = (file: string) => readFileSync(pki.file(file));
  const pair = plain ? [] : [{ private_key: read(`${cert}.key`), cert_chain: read(`${cert}.crt`) }];
  const credentials = plain
    ? ServerCredentials.createInsecure()
    : ServerCredentials.createSsl(read('ca.crt'), pair, mutual);
  ports[name] = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host}:0`, credentials, (error, port) => (error === null ? resolve(port) : reject(error)));
  });
}

beforeAll(async () => {
  pki = stack.use(await makePki('node1', 'late'));
  other = stack.use(await makePki('node1'));
  await pki.ca(['renew', 'node', 'late'], { GEAR_CERT_DAYS: '-1' });
  await serve('tls');
  await serve('mutual', { mutual: true });
  await serve('plain', { plain: true });
  await serve('node', { cert: 'nodes/node1/node' });
  await pki.ca(['renew', 'manager'], { GEAR_CERT_DAYS: '-1' });
  await serve('expired');
  await pki.ca(['renew', 'manager']);
  await serve('named', { host: '127.0.0.2' });
  const http = createHttpServer((_request, response) => response.end('hello'));
  const mute = createServer((socket) => socket.destroy());
  for (const [name, server] of Object.entries({ http, mute })) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    stack.defer(() => void server.close());
    ports[name] = (server.address() as AddressInfo).port;
  }
});
afterAll(() => stack.disposeAsync());

async function ask(server: string, access: Access, host = '127.0.0.1'): Promise<string> {
  using connection = connect(`${host}:${ports[server]}`, 'manager', access);
  const asking = connection.unary(ContentStoreService.findMissing, { digests: [] }, { timeout: 5_000 });
  return await asking.then(
    () => 'served',
    (error: { code: string; message: string }) => `${error.code} ${error.message}`,
  );
}

const own = (): Access => ({ ca: pki.file('ca.crt') });
const node = (name: string, from = pki): Access => ({
  ...own(),
  cert: from.file(`nodes/${name}/node.crt`),
  key: from.file(`nodes/${name}/node.key`),
});

describe('a connection', () => {
  it('is made by name and by address, with and without a certificate of its own', async () => {
    for (const host of ['127.0.0.1', 'localhost']) expect(await ask('tls', own(), host)).toBe('served');
    expect(await ask('mutual', node('node1'))).toBe('served');
  });

  it.each([
    ['no TLS', 'plain', own, /TLS: \S+ speaks no TLS: it runs without --tls-cert/],
    ['something else', 'http', own, /TLS: \S+ speaks no TLS/],
    [
      'who hangs up',
      'mute',
      own,
      /TLS: the connection was closed during the handshake|TLS: .*(ECONNRESET|disconnected)/,
    ],
    ['TLS that was not expected', 'tls', () => ({}), /hangs up: it may want TLS \(--tls-ca\)/],
    [
      'another CA',
      'tls',
      () => ({ ca: other.file('ca.crt') }),
      /TLS: the certificate of \S+ is of another CA than that in/,
    ],
    ['an expired certificate', 'expired', own, /TLS: the certificate of \S+ has expired/],
    ["a node's certificate", 'node', own, /TLS: the certificate of \S+ is (none of a server|for another name)/],
    [
      'who wants a certificate',
      'mutual',
      own,
      /TLS: \S+ wants a certificate of its clients; give --tls-cert and --tls-key/,
    ],
    [
      'who knows another CA',
      'mutual',
      () => node('node1', other),
      /TLS: \S+ does not take the certificate \S+: it is of another CA/,
    ],
    [
      'who finds it expired',
      'mutual',
      () => node('late'),
      /TLS: \S+ does not take the certificate \S+: it has expired \(20/,
    ],
    [
      'keys that do not fit',
      'mutual',
      () => ({ ...node('node1'), key: pki.file('ca.key') }),
      /TLS: what --tls-ca, --tls-cert and --tls-key name does not fit/,
    ],
    ['a file that is gone', 'tls', () => ({ ca: pki.file('gone') }), /TLS: --tls-ca \S+gone: there is no such file/],
  ] as const)('says what it is with %s, and counts as away', async (_what, server, access, message) => {
    const said = await ask(server, access());
    expect(said).toMatch(message);
    expect(said).toMatch(/^unavailable FindMissing at /);
    expect(said).not.toMatch(/Resolution note|No connection established/);
  });

  it('is refused by a certificate for another name', async () => {
    expect(await ask('named', own(), '127.0.0.2')).toMatch(/TLS: the certificate of \S+ is for another name/);
  });

  it('sends its token in every kind of call, and only then', async () => {
    const seen: string[] = [];
    const server = new Server();
    const note = (call: { metadata: { get(key: string): unknown[] } }) =>
      void seen.push(String(call.metadata.get('authorization')[0]));
    server.addService(ContentStoreService, {
      findMissing: (call: never, done: (error: null, answer: object) => void) => {
        note(call);
        done(null, { digests: [] });
      },
      read: (call: { end(): void }) => {
        note(call as never);
        call.end();
      },
      write: (call: { resume(): void }, done: (error: null, answer: object) => void) => {
        note(call as never);
        call.resume();
        done(null, { objects: 0n, bytes: 0n });
      },
      readMany: (call: { end(): void }) => {
        note(call as never);
        call.end();
      },
    } as never);
    stack.defer(() => server.forceShutdown());
    const port = await new Promise<number>((resolve) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_error, bound) => resolve(bound));
    });
    const tokenFile = pki.file('nodes/node1/token');
    using connection = connect(`127.0.0.1:${port}`, 'manager', { tokenFile });
    await connection.unary(ContentStoreService.findMissing, { digests: [] });
    await Array.fromAsync(connection.serverStream(ContentStoreService.read, { range: undefined }));
    await connection.clientStream(ContentStoreService.write, (async function* () {})());
    using exchange = connection.exchange(ContentStoreService.readMany);
    exchange.end();
    await Array.fromAsync(exchange.answers);
    const value = `Bearer ${await pki.token('node1')}`;
    expect(seen).toEqual([value, value, value, value]);
  });
});
